#include "text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/test_folder.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using testing::HasSubstr;

Json TokenizerJson(const Json& cases, const Json& one) {
  Json json = {{"version", "1.0"}};
  for (const char* part : {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    json[part] = one[part];
  }
  json["model"] = cases["models"][one["model"].get<std::string>()];
  return json;
}

const Json& Cases() {
  static const Json cases = ParseJson(ReadFile("tests/golden/tokenizers/cases.json"), "cases");
  return cases;
}

std::unique_ptr<Tokenizer> Case(const std::string& name) {
  for (const Json& one : Cases()["cases"]) {
    if (one["name"] == name) return ReadTokenizerJson(TokenizerJson(Cases(), one), name);
  }
  throw InternalError("no case " + name);
}

std::string StreamedText(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  DecodeStream stream(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = stream.Append(id);
    EXPECT_EQ(ToValidUtf8(piece), piece);
    text += piece;
  }
  return text + stream.Flush();
}

// Ids and texts that the Python package `tokenizers` gave (tools/tokenizers/make_cases.py).
TEST(TokenizerJsonFile, EveryKindEqualsHuggingFace) {
  const Json& cases = Cases();
  for (const Json& one : cases["cases"]) {
    const auto name = one["name"].get<std::string>();
    const auto tokenizer = ReadTokenizerJson(TokenizerJson(cases, one), name);
    for (size_t i = 0; i < cases["texts"].size(); ++i) {
      const auto text = cases["texts"][i].get<std::string>();
      EXPECT_EQ(Json(tokenizer->Encode(text)), one["plain"][i]) << name << ": " << text;
      const std::vector<int32_t> ids = tokenizer->Encode(text, {.add_special_tokens = true, .parse_special = true});
      EXPECT_EQ(Json(ids), one["special"][i]) << name << ": " << text;
      const auto expected = one["special"][i].get<std::vector<int32_t>>();
      if (one["decoded"][i].is_null()) continue;
      EXPECT_EQ(ToValidUtf8(tokenizer->Decode(expected)), one["decoded"][i]) << name << ": " << text;
      EXPECT_EQ(StreamedText(*tokenizer, expected), one["decoded"][i]) << name << ": " << text;
    }
  }
}

TEST(TokenizerJsonFile, NamesAndSpecialTokens) {
  const auto llama = Case("llama2");
  EXPECT_EQ(llama->bos(), 1);
  EXPECT_EQ(llama->eos(), 2);
  EXPECT_TRUE(llama->IsSpecial(1));
  EXPECT_FALSE(llama->IsSpecial(3));
  EXPECT_EQ(llama->TokenId("<s>"), 1);
  EXPECT_EQ(llama->TokenId("<0x41>"), 3 + 0x41);
  EXPECT_EQ(llama->TokenId("none"), std::nullopt);
  EXPECT_EQ(llama->TokenBytes(3 + 0x41), "A");
  EXPECT_EQ(llama->TokenBytes(*llama->TokenId("\u2581the")), " the");
  EXPECT_EQ(UserErrorOf([&] { llama->TokenBytes(100000); }),
            fmt::format("token id: not in the vocabulary, expected 0 to {}, found 100000", llama->vocab_size() - 1));
  // The text's first space goes, that of a continuation stays.
  const std::vector<int32_t> ids = llama->Encode("the the");
  EXPECT_EQ(llama->Decode(ids), "the the");
  DecodeStream stream(*llama);
  EXPECT_EQ(stream.Append(ids[0]), "the");
  EXPECT_EQ(stream.Append(ids[1]), " the");
  EXPECT_EQ(stream.Flush(), "");
  EXPECT_EQ(stream.Append(ids[0]), "the") << "not usable again";
}

TEST(TokenizerJsonFile, BytesSurvive) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  bytes += "the\xff the\xe4\xb8 \xf0\x9f\x90 the\xed\xa0\x80\xc0";
  const auto gpt2 = Case("gpt2");
  EXPECT_EQ(gpt2->Decode(gpt2->Encode(bytes)), bytes);
  const auto llama = Case("llama2");
  EXPECT_EQ(llama->Decode(llama->Encode("\xff\xe4\xb8")), "\xff\xe4\xb8");
  // Without tokens for the bytes it is the replacement character.
  const auto few = Case("few bytes");
  EXPECT_EQ(few->Encode("a\xff"), few->Encode("a\uFFFD"));
}

TEST(TokenizerJsonFile, StreamsNeverSplitCharacters) {
  const auto gpt2 = Case("gpt2");
  const std::string text = "snake \U0001f40d, \u4f60\u597d caf\u00e9";
  EXPECT_EQ(StreamedText(*gpt2, gpt2->Encode(text)), text);
  DecodeStream stream(*gpt2);
  const std::vector<int32_t> ids = gpt2->Encode("\U0001f40d");
  ASSERT_EQ(ids.size(), 4u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(stream.Append(ids[static_cast<size_t>(i)]), "");
  EXPECT_EQ(stream.Append(ids[3]), "\U0001f40d");
}

TEST(TokenizerJsonFile, BothFormsOfMerges) {
  Json json = TokenizerJson(Cases(), Cases()["cases"][0]);
  const auto lists = ReadTokenizerJson(json, "lists");
  for (Json& merge : json["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const auto strings = ReadTokenizerJson(json, "strings");
  const std::string text = "the tokenizer's world in 123";
  EXPECT_EQ(lists->Encode(text), strings->Encode(text));
  EXPECT_LT(strings->Encode(text).size(), text.size());
}

// What the errors say. The file's other parts are those of GPT-2's case.
std::string ComplaintAfter(const std::function<void(Json&)>& change) {
  Json json = TokenizerJson(Cases(), Cases()["cases"][0]);
  change(json);
  return UserErrorOf([&] { ReadTokenizerJson(json, "t.json"); });
}

TEST(TokenizerJsonFile, RefusesWhatItCannotDo) {
  EXPECT_EQ(ComplaintAfter([](Json&) {}), "");
  EXPECT_EQ(ComplaintAfter([](Json& j) { j["model"]["type"] = "WordPiece"; }),
            "t.json: model.type: this model is not supported, expected BPE, found the string \"WordPiece\"");
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["dropout"] = 0.1; }), HasSubstr("t.json: model.dropout: "));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }),
              HasSubstr("t.json: model.end_of_word_suffix: "));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["magic"] = 1; }),
              HasSubstr("t.json: model: unknown key, found the string \"magic\""));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["normalizer"] = {{"type", "BertNormalizer"}};
              }),
              HasSubstr("t.json: normalizer.type: this normalizer is not supported"));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
              }),
              HasSubstr("t.json: pre_tokenizer.type: this pre-tokenizer is not supported"));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["decoder"] = {{"type", "WordPiece"}};
              }),
              HasSubstr("t.json: decoder.type: this decoder is not supported"));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["post_processor"] = {{"type", "BertProcessing"}};
              }),
              HasSubstr("t.json: post_processor.type: this post-processor is not supported"));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j.erase("decoder"); }),
              HasSubstr("t.json: a member is missing, expected \"decoder\""));
  const auto split = [](const char* pattern) {
    return [=](Json& j) {
      j["pre_tokenizer"] = {
          {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    };
  };
  EXPECT_EQ(ComplaintAfter(split("a(b\n")),
            "t.json: pre_tokenizer.pattern: PCRE2 refuses the regular expression at byte 4: missing closing "
            "parenthesis, found the string \"a(b\\n\"");
  EXPECT_THAT(ComplaintAfter(split("[[:alpha:]]")), HasSubstr("a POSIX class"));
  EXPECT_THAT(ComplaintAfter(split("[a&&b]")), HasSubstr("an intersection"));
}

TEST(TokenizerJsonFile, RefusesContradictions) {
  EXPECT_EQ(ComplaintAfter([](Json& j) {
              j["model"]["merges"][3] = {"Q", "Zz"};
            }),
            "t.json: model.merges[3]: the merge has a token that the vocabulary lacks, found the string \"Zz\"");
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["merges"][0] = "a b c"; }), HasSubstr("wrong merge"));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["merges"][0] = {"Q", "Z"}; }), HasSubstr("\"QZ\""));
  EXPECT_EQ(ComplaintAfter([](Json& j) { j["model"]["vocab"]["zz"] = 5; }),
            "t.json: model.vocab: two tokens have the id 5, expected one, found the string \"zz\" and the string "
            "\"\\u0105\"");
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["vocab"]["zz"] = 4'000'000'000; }), HasSubstr("wrong value"));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["vocab"]["zz"] = 2'000'000; }), HasSubstr("wrong value"));
  EXPECT_THAT(ComplaintAfter([](Json& j) { j["model"]["vocab"]["zz"] = -1; }), HasSubstr("wrong value"));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["added_tokens"] = {{{"id", 7}, {"content", "<x>"}}};
              }),
              HasSubstr("t.json: added_tokens[0]: two tokens have the id 7"));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["added_tokens"] = {{{"id", 60000}, {"content", "A"}}};
              }),
              HasSubstr("a token has two ids, expected 65, found 60000 for the string \"A\""));
  EXPECT_THAT(ComplaintAfter([](Json& j) {
                j["post_processor"] = {{"type", "TemplateProcessing"},
                                       {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}}},
                                       {"pair", Json::array()},
                                       {"special_tokens", Json::object()}};
              }),
              HasSubstr("the template names an unknown token"));
}

}  // namespace
}  // namespace taipan
