#include "text/tokenizer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  EXPECT_EQ(config.added_tokens[40000].text, "x");
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

TEST(TokenizerConfig, SpecialTokensMustExist) {
  ByteTokenizer bytes;
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "A"}, {"pad_token", "<pad>"}};
  ApplySpecialTokens(config, "f", bytes);
  EXPECT_EQ(bytes.bos(), 'A');
  config.special_tokens["eos_token"] = "<e>";
  EXPECT_EQ(UserErrorOf([&] { ApplySpecialTokens(config, "f", bytes); }),
            "f: eos_token names a token that the vocabulary lacks, found the string \"<e>\"");
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
  EXPECT_THAT(complaint(config, R"({"chat_template": [{"name": "a", "template": "b"}]})"),
              HasSubstr("no template named"));
  EXPECT_THAT(complaint(config, R"({"chat_template": 3})"), HasSubstr("a string or a list"));
  EXPECT_THAT(complaint("generation_config.json", R"({"eos_token_id": [-1]})"),
              HasSubstr("expected a token id, found the number -1"));
  EXPECT_THAT(complaint("generation_config.json", R"({"eos_token_id": 4294967296})"), HasSubstr("expected a token id"));
}

}  // namespace
}  // namespace taipan
