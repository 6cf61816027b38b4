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
  for (const char* text : {"{}", "{\"model\":1}", "{\"model\":{\"vocab\":[1]}}", "{\"version\": \"1.0\", \"mod"}) {
    WriteFileAtomically(folder / "t.json", text);
    EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "t.json"); }), HasSubstr((folder / "t.json") + ": ")) << text;
  }
  WriteFileAtomically(folder / "t.json", "{\"model\": " + std::string(1'000'000, '['));
  EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "t.json"); }), HasSubstr("deep"));
}

// A byte tokenizer is known for one, also where its file says other things that change nothing; else it is another.
TEST(LoadTokenizer, KnowsByteTokenizers) {
  TestFolder folder;
  const auto is_byte_tokenizer_after = [&](const std::function<void(nlohmann::json&)>& change) {
    auto json = nlohmann::json::parse(ByteTokenizerJson());
    change(json);
    WriteFileAtomically(folder / "t.json", json.dump());
    return dynamic_cast<ByteTokenizer*>(LoadTokenizer(folder / "t.json").get()) != nullptr;
  };
  EXPECT_TRUE(is_byte_tokenizer_after([](auto&) {}));
  EXPECT_TRUE(is_byte_tokenizer_after([](auto& j) { j["pre_tokenizer"]["use_regex"] = true; }));
  EXPECT_TRUE(is_byte_tokenizer_after([](auto& j) { j["post_processor"] = j["decoder"]; }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) {
    j["model"]["merges"] = nlohmann::json::array({"a b"});
    j["model"]["vocab"]["ab"] = 256;
  }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) { std::swap(j["model"]["vocab"]["a"], j["model"]["vocab"]["b"]); }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) { j["normalizer"] = {{"type", "NFC"}}; }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) { j["added_tokens"] = {{{"id", 256}, {"content", "<x>"}}}; }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }));
  EXPECT_FALSE(is_byte_tokenizer_after([](auto& j) { j["decoder"] = nullptr; }));
}

}  // namespace
}  // namespace taipan
