#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string AllBytes() {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  return bytes;
}

TEST(ByteTokenizer, IdsAreBytes) {
  const ByteTokenizer t;
  EXPECT_EQ(t.vocab_size(), 256);
  EXPECT_THAT(t.Encode("A\n\xc3\xa9"), ElementsAre(65, 10, 0xc3, 0xa9));
  EXPECT_TRUE(t.Encode("").empty());
  const std::vector<int32_t> ids = t.Encode(AllBytes());
  EXPECT_EQ(ids[255], 255);
  EXPECT_EQ(t.Decode(ids), AllBytes());
  EXPECT_EQ(t.TokenBytes(0), std::string_view("\0", 1));
  EXPECT_FALSE(t.bos().has_value());
  EXPECT_FALSE(t.eos().has_value());
}

TEST(ByteTokenizer, IdsOutOfRange) {
  const ByteTokenizer t;
  EXPECT_EQ(UserErrorOf([&] { t.TokenBytes(256); }), "token id: not in the vocabulary, expected 0 to 255, found 256");
  EXPECT_THAT(UserErrorOf([&] { t.Decode(std::vector<int32_t>{65, -1}); }), HasSubstr("found -1"));
}

TEST(TokenizerJson, IsByteLevelWithoutMerges) {
  EXPECT_EQ(ByteTokenizerJson(), ByteTokenizerJson());
  const auto json = nlohmann::json::parse(ByteTokenizerJson());
  const auto& vocab = json["model"]["vocab"];
  EXPECT_EQ(vocab.size(), 256u);
  EXPECT_EQ(vocab["A"], 'A');
  EXPECT_EQ(vocab["\""], '"');
  EXPECT_EQ(vocab["\u0120"], ' ');  // G with a dot, which every GPT-2 vocabulary has for the space
  EXPECT_EQ(vocab["\u010a"], '\n');
  EXPECT_EQ(vocab["\u0100"], 0);
  EXPECT_EQ(vocab["\u0121"], 0x7f);
  EXPECT_EQ(vocab["\u0122"], 0x80);
  EXPECT_EQ(vocab["\u0143"], 0xad);
  EXPECT_EQ(vocab["\u00a1"], 0xa1);
  EXPECT_EQ(vocab["\u00ff"], 0xff);
  EXPECT_TRUE(json["model"]["merges"].empty());
  // In the order of the bytes in the text too.
  EXPECT_LT(ByteTokenizerJson().find("\"A\": 65"), ByteTokenizerJson().find("\"B\": 66"));
}

TEST(LoadTokenizer, ByNameFileAndFolder) {
  TestFolder folder;
  EXPECT_EQ(LoadTokenizer("byte")->vocab_size(), 256);
  EXPECT_FALSE(HasTokenizer(folder.path()));
  EXPECT_EQ(LoadTokenizer(folder.path()), nullptr);
  WriteFileAtomically(folder / "tokenizer.json", ByteTokenizerJson());
  EXPECT_TRUE(HasTokenizer(folder.path()));
  EXPECT_EQ(LoadTokenizer(folder.path())->vocab_size(), 256);
  EXPECT_EQ(LoadTokenizer(folder / "tokenizer.json")->vocab_size(), 256);
}

TEST(LoadTokenizer, MissingAndGarbageFiles) {
  TestFolder folder;
  EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "none"); }), HasSubstr((folder / "none") + ": cannot open"));
  WriteFileAtomically(folder / "tokenizer.model", "\x0a\x0e\x0a\x05<unk>");
  EXPECT_TRUE(HasTokenizer(folder.path()));
  EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder.path()); }),
              AllOf(HasSubstr((folder / "tokenizer.model") + ": "), HasSubstr("only byte tokenizers are supported")));
  for (const char* text : {"", "[]", "1", "{}", "{\"model\":1}", "{\"model\":{\"vocab\":[1]}}"}) {
    WriteFileAtomically(folder / "t.json", text);
    EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "t.json"); }), HasSubstr("only byte tokenizers")) << text;
  }
  WriteFileAtomically(folder / "t.json", std::string(1'000'000, '['));
  EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "t.json"); }), HasSubstr("not JSON"));
}

TEST(LoadTokenizer, RefusesOtherTokenizers) {
  TestFolder folder;
  const auto complaint_after = [&](const std::function<void(nlohmann::json&)>& change) {
    auto json = nlohmann::json::parse(ByteTokenizerJson());
    change(json);
    WriteFileAtomically(folder / "t.json", json.dump());
    return UserErrorOf([&] { LoadTokenizer(folder / "t.json"); });
  };
  EXPECT_EQ(complaint_after([](auto&) {}), "");
  EXPECT_EQ(complaint_after([](auto& j) { j["pre_tokenizer"]["use_regex"] = true; }), "");
  EXPECT_EQ(complaint_after([](auto& j) {
              j["model"]["merges"] = {{"a", "b"}};
            }),
            (folder / "t.json") +
                ": only byte tokenizers are supported in this version, expected byte-level BPE without "
                "merges, vocabulary in the order of the bytes, found BPE merges");
  EXPECT_THAT(complaint_after([](auto& j) { j["model"]["type"] = "Unigram"; }), HasSubstr("another type than BPE"));
  EXPECT_THAT(complaint_after([](auto& j) { j["model"]["vocab"]["zz"] = 256; }), HasSubstr("another size than 256"));
  EXPECT_THAT(complaint_after([](auto& j) { std::swap(j["model"]["vocab"]["a"], j["model"]["vocab"]["b"]); }),
              HasSubstr("not in the order of the bytes"));
  EXPECT_THAT(complaint_after([](auto& j) {
                j["normalizer"] = {{"type", "NFC"}};
              }),
              HasSubstr("entries in normalizer"));
  EXPECT_THAT(complaint_after([](auto& j) {
                j["post_processor"] = {{"type", "TemplateProcessing"}};
              }),
              HasSubstr("post_proc"));
  EXPECT_THAT(complaint_after([](auto& j) {
                j["added_tokens"] = {{{"id", 256}}};
              }),
              HasSubstr("entries in added_tokens"));
  EXPECT_THAT(complaint_after([](auto& j) { j["pre_tokenizer"] = nullptr; }), HasSubstr("pre_tokenizer that is not"));
  EXPECT_THAT(complaint_after([](auto& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }), HasSubstr("add_prefix"));
  EXPECT_THAT(complaint_after([](auto& j) { j["decoder"] = nullptr; }), HasSubstr("decoder that is not ByteLevel"));
}

}  // namespace
}  // namespace taipan
