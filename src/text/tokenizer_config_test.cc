#include "text/tokenizer_config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TokenizerConfig, ReadsWhatConcernsTokens) {
  TestFolder folder;
  EXPECT_TRUE(LoadTokenizerConfig(folder.path()).special_tokens.empty());
  WriteFileAtomically(folder / "special_tokens_map.json", R"({"unk_token": "<u>", "bos_token": "<old>"})");
  WriteFileAtomically(folder / "tokenizer_config.json", R"({
    "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
    "add_bos_token": true, "add_eos_token": false, "tokenizer_class": "LlamaTokenizer", "model_max_length": 1e30,
    "added_tokens_decoder": {"2": {"content": "</s>", "special": true}, "40000": {"content": "x"}},
    "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ 1 }}"}]})");
  WriteFileAtomically(folder / "generation_config.json",
                      R"({"bos_token_id": 1, "eos_token_id": [2, 7], "top_p": 0.9})");
  TokenizerConfig config = LoadTokenizerConfig(folder.path());
  EXPECT_EQ(config.special_tokens["bos_token"], "<s>");
  EXPECT_EQ(config.special_tokens["eos_token"], "</s>");
  EXPECT_EQ(config.special_tokens["unk_token"], "<u>");
  EXPECT_EQ(config.special_tokens.count("pad_token"), 0u);
  EXPECT_EQ(config.add_bos_token, true);
  EXPECT_EQ(config.add_eos_token, false);
  EXPECT_EQ(config.tokenizer_class, "LlamaTokenizer");
  EXPECT_EQ(config.added_tokens[40000].content, "x");
  EXPECT_TRUE(config.added_tokens[2].special);
  EXPECT_EQ(config.chat_template, "{{ 1 }}");
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_THAT(config.eos_ids, ElementsAre(2, 7));
  WriteFileAtomically(folder / "chat_template.jinja", "{{ 2 }}");
  config = LoadTokenizerConfig(folder.path());
  EXPECT_EQ(config.chat_template, "{{ 2 }}");
  EXPECT_EQ(config.chat_template_file, folder / "chat_template.jinja");
}

TEST(TokenizerConfig, EndOfTextIds) {
  ByteTokenizer bytes;
  bytes.set_eos(7);
  TokenizerConfig config;
  EXPECT_THAT(EndOfTextIds(config, bytes), ElementsAre(7));
  config.eos_ids = {9, 7, 3};
  EXPECT_THAT(EndOfTextIds(config, bytes), ElementsAre(3, 7, 9));
}

TEST(TokenizerConfig, ANameWithoutATokenIsNone) {
  ByteTokenizer bytes;
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "A"}, {"pad_token", "<pad>"}, {"eos_token", "<e>"}};
  ApplySpecialTokens(config, bytes);
  EXPECT_EQ(bytes.bos(), 'A');
  EXPECT_EQ(bytes.eos(), std::nullopt);
}

TEST(TokenizerConfig, CopiesKeepEveryEnd) {
  TestFolder folder;
  const auto generation = [&] {
    for (const auto& [name, content] : ReadTokenizerFiles(folder.path())) {
      if (name == "generation_config.json") return content;
    }
    return std::string();
  };
  WriteFileAtomically(folder / "config.json", R"({"eos_token_id": 7})");
  EXPECT_EQ(generation(), "");
  WriteFileAtomically(folder / "config.json", R"({"eos_token_id": [7, 9]})");
  EXPECT_EQ(Json::parse(generation()), Json::parse(R"({"eos_token_id": [7, 9]})"));
  WriteFileAtomically(folder / "generation_config.json", R"({"top_k": 4, "eos_token_id": 8})");
  EXPECT_EQ(Json::parse(generation()), Json::parse(R"({"top_k": 4, "eos_token_id": [7, 8, 9]})"));
  const std::string whole = R"({"eos_token_id": [9, 7]})";
  WriteFileAtomically(folder / "generation_config.json", whole);
  EXPECT_EQ(generation(), whole);
}

TEST(TokenizerConfig, RefusesOtherTypes) {
  TestFolder folder;
  const auto complaint = [&](const char* file, const std::string& text) {
    WriteFileAtomically(folder / file, text);
    const std::string line = UserErrorOf([&] { LoadTokenizerConfig(folder.path()); });
    WriteFileAtomically(folder / file, "{}");
    return line;
  };
  const char* config = "tokenizer_config.json";
  EXPECT_EQ(complaint(config, R"({"bos_token": 1})"),
            (folder / config) + ": bos_token has another type, expected a token's text, found the number 1");
  EXPECT_THAT(complaint(config, "[]"), HasSubstr("is not a JSON object"));
  EXPECT_THAT(complaint(config, "{\"bos"), HasSubstr(config));
  EXPECT_THAT(complaint(config, R"({"add_bos_token": 1})"), HasSubstr("expected true or false"));
  EXPECT_THAT(complaint(config, R"({"added_tokens_decoder": {"x": {}}})"), HasSubstr("a key that is no token id"));
  EXPECT_THAT(complaint(config, R"({"added_tokens_decoder": {"1": {}}})"), HasSubstr("a token's text"));
  EXPECT_THAT(complaint("added_tokens.json", R"({"<x>": "5"})"), HasSubstr("expected a token id"));
}

TEST(TokenizerConfig, WhatOnlySomeUsesNeedIsNoError) {
  TestFolder folder;
  const auto read = [&](const char* file, const std::string& text) {
    WriteFileAtomically(folder / file, text);
    return LoadTokenizerConfig(folder.path());
  };
  const auto no_template = [&](const std::string& value) {
    const TokenizerConfig config = read("tokenizer_config.json", "{\"chat_template\": " + value + "}");
    EXPECT_EQ(config.chat_template, "");
    return config.no_chat_template;
  };
  EXPECT_EQ(no_template(R"([{"name": "a", "template": "b"}, {"name": "c", "template": "d"}])"),
            R"(chat_template has no template named default, but the string "a", the string "c")");
  EXPECT_EQ(no_template("3"), "chat_template is the number 3");
  EXPECT_EQ(no_template(R"([{"name": 1}, 2])"), "chat_template is a list of 2 values");
  EXPECT_EQ(read("tokenizer_config.json", R"({"chat_template": {"a": "b", "default": "d"}})").chat_template, "d");
  const auto ends = [&](const std::string& value) {
    return read("generation_config.json", "{\"eos_token_id\": " + value + "}");
  };
  EXPECT_TRUE(ends("-1").eos_ids.empty());
  EXPECT_EQ(ends("-1").generation_problems, "");
  EXPECT_THAT(ends("[5, -1, null, 6]").eos_ids, ElementsAre(5, 6));
  EXPECT_THAT(ends(R"([5, "6", 4294967296])").eos_ids, ElementsAre(5));
  EXPECT_THAT(ends(R"([5, "6"])").generation_problems, HasSubstr("eos_token_id: the string \"6\" is no token id"));
  EXPECT_THAT(read("generation_config.json", "[]").generation_problems, HasSubstr("not a JSON object"));
  EXPECT_THAT(read("generation_config.json", "{").generation_problems, HasSubstr("generation_config.json"));
}

FileTokens WithTokens(std::map<std::string, int32_t> vocabulary, std::vector<AddedToken> added) {
  FileTokens file;
  file.added = std::move(added);
  file.size = static_cast<int64_t>(vocabulary.size());
  file.find = [vocabulary](const std::string& content) {
    const auto it = vocabulary.find(content);
    return it == vocabulary.end() ? std::nullopt : std::optional(it->second);
  };
  return file;
}

std::vector<std::string> Merged(const TokenizerConfig& config, const FileTokens& file) {
  std::vector<std::string> list;
  for (const AddedToken& t : MergeAddedTokens(config, file)) {
    list.push_back(fmt::format("{} {}{}{}{}", t.id, t.content, t.special ? " special" : "", t.lstrip ? " lstrip" : "",
                               t.normalized ? " normalized" : ""));
  }
  return list;
}

// What transformers 5.24 makes of the same files, but that a name alone makes no token.
TEST(TokenizerConfig, MergesAddedTokens) {
  TestFolder folder;
  const FileTokens file = WithTokens({{"a", 0}, {"b", 1}, {"<e>", 2}}, {{.id = 3, .content = "<p>", .special = true}});
  WriteFileAtomically(folder / "special_tokens_map.json",
                      R"({"eos_token": "<e>", "bos_token": {"content": "<none>", "lstrip": true},
                          "additional_special_tokens": ["<y>"]})");
  WriteFileAtomically(folder / "added_tokens.json", R"({"<x>": 6, "<y>": 5, "<p>": 3, "  ": 4})");
  EXPECT_THAT(
      Merged(LoadTokenizerConfig(folder.path()), file),
      ElementsAre("2 <e> special", "3 <p> special normalized", "4    normalized", "5 <y> special", "6 <x> normalized"));
  // The newer place is complete.
  WriteFileAtomically(folder / "tokenizer_config.json",
                      R"({"eos_token": "a", "extra_special_tokens": ["<n>"], "added_tokens_decoder":
                          {"3": {"content": "<p>", "lstrip": true, "special": true, "normalized": false},
                           "4": {"content": "b"}, "5": {"content": "<q>", "special": true}}})");
  EXPECT_THAT(Merged(LoadTokenizerConfig(folder.path()), file),
              ElementsAre("0 a special", "1 b normalized", "3 <p> special lstrip", "5 <q> special",
                          "7 <n> special"));                            // 6 is <none> to transformers
  WriteFileAtomically(folder / "config.json", R"({"vocab_size": 5})");  // a model without rows for more
  EXPECT_THAT(Merged(LoadTokenizerConfig(folder.path()), file),
              ElementsAre("0 a special", "1 b normalized", "3 <p> special lstrip"));
  std::filesystem::remove(folder / "config.json");
  WriteFileAtomically(folder / "tokenizer_config.json",
                      R"({"added_tokens_decoder": {"1000000": {"content": "<far>"}}})");
  EXPECT_THAT(UserErrorOf([&] { Merged(LoadTokenizerConfig(folder.path()), file); }), HasSubstr("<far>"));
}

}  // namespace
}  // namespace taipan
