#include "text/sentencepiece/sentencepiece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <set>

#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "text/sentencepiece/sentencepiece_test_model.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Ids: 0 <unk>, 1 <s>, 2 </s>, 3 [INST], 4 to 259 the bytes, then these.
const std::vector<std::string> kPieces = {"\u2581a", "ab", "\u2581ab", "\u2581", "a", "b", "\u00e9"};

std::unique_ptr<Tokenizer> TestTokenizer(const SentencePieceOptions& options = {}, bool prefix = true) {
  return MakeSentencePieceTokenizer(SentencePieceTestModel(kPieces, prefix), "m", options);
}

TEST(SentencePiece, EncodesByScoreWithByteFallback) {
  const auto t = TestTokenizer();
  EXPECT_EQ(t->vocab_size(), 267);
  EXPECT_THAT(t->Encode("ab"), ElementsAre(262));
  EXPECT_THAT(t->Encode("aab"), ElementsAre(260, 261));
  EXPECT_THAT(t->Encode("bab"), ElementsAre(263, 265, 261));
  EXPECT_THAT(t->Encode("\u00e9z"), ElementsAre(263, 266, 4 + 'z'));
  EXPECT_THAT(t->Encode("\u20ac"), ElementsAre(263, 4 + 0xE2, 4 + 0x82, 4 + 0xAC));
  EXPECT_THAT(t->Encode(""), ElementsAre());
  EXPECT_THAT(TestTokenizer({}, false)->Encode("ab"), ElementsAre(261));
}

TEST(SentencePiece, SpecialTokens) {
  const auto t = TestTokenizer({.add_bos = true, .add_eos = true});
  EXPECT_EQ(t->bos(), 1);
  EXPECT_EQ(t->eos(), 2);
  EXPECT_THAT(t->Encode("b", {.add_special_tokens = true}), ElementsAre(1, 263, 265, 2));
  EXPECT_THAT(t->Encode("b</s>b[INST]", {.parse_special = true}), ElementsAre(263, 265, 2, 263, 265, 3));
  EXPECT_EQ(t->Encode("</s>").size(), 5u);  // as text
  EXPECT_TRUE(t->IsSpecial(1));
  EXPECT_FALSE(t->IsSpecial(0));
  EXPECT_FALSE(t->IsSpecial(260));
  EXPECT_EQ(t->TokenId("[INST]"), 3);
  EXPECT_EQ(t->TokenId("[OUT]"), std::nullopt);
}

TEST(SentencePiece, DecodingTakesTheFirstSpaceAway) {
  const auto t = TestTokenizer();
  for (const char* text : {"", "ab", " ab", "  a", "b \u00e9\u20ac a"}) EXPECT_EQ(t->Decode(t->Encode(text)), text);
  EXPECT_EQ(t->Decode(std::vector<int32_t>{263, 263}), " ");
  EXPECT_EQ(TestTokenizer({}, false)->Decode(std::vector<int32_t>{263, 260}), "  a");
  EXPECT_EQ(t->TokenBytes(260), " a");
  EXPECT_EQ(t->TokenBytes(4 + 0x80), "\x80");
  DecodeStream stream(*t);
  EXPECT_EQ(stream.Append(260), "a");
  EXPECT_EQ(stream.Append(260), " a");
  EXPECT_EQ(stream.Append(4 + 0xE2), "");
  EXPECT_EQ(stream.Append(4 + 0x82), "");
  EXPECT_EQ(stream.Append(4 + 0xAC), "\u20ac");
}

TEST(SentencePiece, RefusesDamagedModels) {
  const std::string good = SentencePieceTestModel(kPieces);
  const auto complaint = [](const std::string& content) {
    return UserErrorOf([&] { MakeSentencePieceTokenizer(content, "m", {}); });
  };
  EXPECT_EQ(complaint(good), "");
  EXPECT_THAT(complaint(good.substr(0, good.size() - 3)), HasSubstr("m: a damaged SentencePiece model"));
  EXPECT_THAT(complaint("\x0a\x0e\x0a\x05<unk>"), HasSubstr("reaches beyond the end"));
  EXPECT_THAT(complaint(good + WirePiece("ab", 0, 1)), HasSubstr("m: SentencePiece refuses this model"));
  EXPECT_THAT(complaint(good + WirePiece("xy", 0, 6)), HasSubstr("byte piece"));
  EXPECT_THAT(complaint(good + WirePiece("", 0, 1)), HasSubstr("an empty piece"));
  EXPECT_THAT(complaint(good + WireBytes(3, WireBytes(2, std::string(3000, '\x7f')))), HasSubstr("character map"));
  EXPECT_THAT(complaint(""), HasSubstr("no vocabulary"));
  EXPECT_TRUE(LooksLikeSentencePiece(good));
  EXPECT_FALSE(LooksLikeSentencePiece("IQ== 0\nIg== 1\n"));
  EXPECT_FALSE(LooksLikeSentencePiece(""));
}

// A model of a few pieces with equal scores and, at times, special ones, some of which our own merges must leave to the
// library.
std::string RandomModel(Draws& draw, const std::vector<std::string>& letters) {
  std::string model = SentencePieceTestModel({}, draw.Below(4) > 0);
  std::set<std::string> known;
  const auto add = [&](const std::string& piece) {
    const size_t kind = draw.Below(40);
    const int type = kind == 0 ? 3 : kind == 1 ? 5 : kind < 5 ? 4 : 1;
    if (known.insert(piece).second) model += WirePiece(piece, -static_cast<float>(draw.Below(7)), type);
  };
  for (const std::string& letter : letters) {
    if (draw.Below(30) > 0) add(letter);
  }
  for (size_t n = 1 + draw.Below(15); n > 0; --n) {
    std::string piece;
    for (size_t size = 2 + draw.Below(4); size > 0; --size) piece += draw.OneOf(letters);
    add(piece);
  }
  if (draw.Below(20) == 0) model += WireBytes(3, WireNumber(4, 1));  // remove_extra_whitespaces
  return model;
}

TEST(SentencePiece, OwnMergesGiveTheLibrarysIds) {
  const std::vector<std::string> letters = {"\u2581", "a", "b", "\u00e9"};
  const std::vector<std::string> parts = {" ", "  ", "a", "b", "ab", "\u00e9", "\u2581", "z", "\n", "<s>", "\xff"};
  int64_t ids = 0, refused = 0;
  const int64_t models = FromEnvironment("TAIPAN_FUZZ_INPUTS", 1000);
  for (uint32_t i = 0; i < models; ++i) {
    Draws draw(7, i);
    const std::string model = RandomModel(draw, letters);
    const auto tokenizer = MakeSentencePieceTokenizer(model, "m", {});
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    for (int t = 0; t < 10; ++t) {
      std::string text;
      const size_t kinds = parts.size() - (draw.Below(4) > 0);  // mostly well-formed
      for (size_t size = draw.Below(40); size > 0; --size) text += parts[draw.Below(kinds)];
      std::vector<int> expected;
      const auto status = library.Encode(text, &expected);
      if (!status.ok()) {  // some models with unused or user-defined pieces
        EXPECT_THAT(UserErrorOf([&] { tokenizer->Encode(text); }), HasSubstr("not consumed"));
        ++refused;
        continue;
      }
      ASSERT_EQ(tokenizer->Encode(text), expected) << "model " << i << ": " << text;
      ids += static_cast<int64_t>(expected.size());
    }
  }
  EXPECT_GT(ids, 100 * models);
  EXPECT_LT(refused, models);
}

// A piece that begins like the spelling of a byte must not swallow a character's last byte.
TEST(SentencePiece, BytesNeverMerge) {
  const std::string model = SentencePieceTestModel({"<0xAC>a", "<", "0", "x", "A", "C", ">", "a", "\u2581"});
  const auto tokenizer = MakeSentencePieceTokenizer(model, "m", {});
  EXPECT_THAT(tokenizer->Encode("\u20aca"), ElementsAre(268, 4 + 0xE2, 4 + 0x82, 4 + 0xAC, 267));
}

TEST(SentencePiece, IdsOutOfRange) {
  EXPECT_THAT(UserErrorOf([] { TestTokenizer()->TokenBytes(267); }), HasSubstr("expected 0 to 266, found 267"));
  EXPECT_FALSE(TestTokenizer()->IsSpecial(-1));
}

}  // namespace
}  // namespace taipan
