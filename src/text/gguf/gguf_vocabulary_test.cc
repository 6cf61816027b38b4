#include "text/gguf/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/test_folder.h"
#include "text/chat_template.h"
#include "text/gguf/test_gguf_vocabularies.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(GgufVocabulary, ByteLevel) {
  const auto t = MakeGgufTokenizer(Gpt2Like(), "f");
  EXPECT_EQ(t->vocab_size(), 263);
  EXPECT_THAT(t->Encode("hello he"), ElementsAre(258, 'o', 259));
  EXPECT_THAT(t->Encode("a12"), ElementsAre('a', '1', '2'));  // digits stand alone in smollm
  EXPECT_THAT(t->Encode("he<|im_end|>", {.parse_special = true}), ElementsAre(256, 261));
  EXPECT_EQ(t->Encode("<|im_end|>").size(), 10u);
  EXPECT_THAT(t->Encode("h  x  h"), ElementsAre('h', 262, 'h'));  // user defined: always
  EXPECT_TRUE(t->IsSpecial(261));
  EXPECT_FALSE(t->IsSpecial(262));
  EXPECT_EQ(t->eos(), 261);
  EXPECT_EQ(t->Decode(t->Encode("\xff hell\u00e9  x  ")), "\xff hell\u00e9  x  ");
  GgufVocabulary gpt2 = Gpt2Like();
  gpt2.pre = "gpt-2";
  EXPECT_THAT(MakeGgufTokenizer(gpt2, "f")->Encode("a12"), ElementsAre('a', 260));
}

TEST(GgufVocabulary, Llama3AddsBosAndTakesWholeWords) {
  GgufVocabulary v = Gpt2Like();
  v.pre = "llama-bpe";
  v.bos = 261;
  v.tokens[262] = "xyz";  // a word that no merge gives
  v.types[262] = 1;
  const auto t = MakeGgufTokenizer(v, "f");
  EXPECT_THAT(t->Encode("xyz", {.add_special_tokens = true}), ElementsAre(261, 262));
  v.add_bos = false;
  EXPECT_THAT(MakeGgufTokenizer(v, "f")->Encode("xyz", {.add_special_tokens = true}), ElementsAre(262));
}

TEST(GgufVocabulary, LlamaAgreesWithSentencePiece) {
  const std::vector<std::string> pieces = {"\u2581a", "ab", "\u2581ab", "\u2581\u2581", "ba",  "\u2581",
                                           "a",       "b",  "\u00e9",   "aa",           "aaaa"};
  const auto ours = MakeGgufTokenizer(LlamaLike(pieces), "f");
  const auto theirs = MakeSentencePieceTokenizer(SentencePieceTestModel(pieces), "m", {.add_bos = true});
  uint32_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) {
      state = state * 1664525u + 1013904223u;
      static const char* const kParts[] = {"a", "b", " ", "\u00e9", "a", "z", "\u20ac", "</s>"};
      text += kParts[state >> 29];
    }
    for (const bool special : {false, true}) {
      const EncodeOptions options{.add_special_tokens = special, .parse_special = special};
      const std::vector<int32_t> ids = ours->Encode(text, options);
      ASSERT_EQ(ids, theirs->Encode(text, options)) << text;
      ASSERT_EQ(ours->Decode(ids), theirs->Decode(ids)) << text;
    }
  }
}

TEST(GgufVocabulary, NamesWhatIsWrong) {
  const auto complaint_after = [](GgufVocabulary v, const std::function<void(GgufVocabulary&)>& change) {
    change(v);
    return UserErrorOf([&] { MakeGgufTokenizer(v, "f"); });
  };
  const GgufVocabulary gpt2 = Gpt2Like(), llama = LlamaLike({"\u2581a"});
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.pre = "klingon"; }),
              HasSubstr("not supported, expected gpt-2, smollm, llama-bpe, "));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.pre = "klingon"; }), HasSubstr("found klingon"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.model = "bert"; }),
              HasSubstr("expected gpt2 or llama, found bert"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.tokens.clear(); }), HasSubstr("missing or empty"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.types.pop_back(); }), HasSubstr("token_type has another length"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.types[0] = 9; }), HasSubstr("an unknown type of token 0"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.eos = 263; }), HasSubstr("eos_token_id is not in the vocabulary"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.merges[1] = "l x"; }),
              HasSubstr("f: tokenizer.ggml.merges, entry 1: a merge of a token that the vocabulary lacks"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.tokens[5] = "h"; }), HasSubstr("has a token twice"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.scores.pop_back(); }), HasSubstr("scores has another length"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.scores[260] = std::numeric_limits<float>::quiet_NaN(); }),
              HasSubstr("entry 260 is NaN"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.tokens[4] = "x"; }), HasSubstr("byte token 4 is not spelled"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.tokens[260] = std::string(2000, 'x'); }), HasSubstr("too long"));
}

TEST(GgufVocabulary, SpecialTokensOfTheChatTemplate) {
  const GgufVocabulary v = LlamaLike({"\u2581a"});
  const ChatTemplate chat("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "f", SpecialTokenTexts(v));
  EXPECT_EQ(chat.Render({{"user", "a"}}, false), "<s>a</s>");
}

}  // namespace
}  // namespace taipan
