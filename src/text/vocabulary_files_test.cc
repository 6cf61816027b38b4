#include "text/vocabulary_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/vocabulary_test_files.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kMerges = {"h e", "l l", "he ll", "\u0120 he"};  // 256 he, 257 ll, 258 hell, 259 " he"

void WriteGpt2(const TestFolder& folder, const std::string& merges, const std::vector<std::string>& more) {
  WriteFileAtomically(folder / "vocab.json", TestVocabJson(TestSpellings(kMerges, more)));
  WriteFileAtomically(folder / "merges.txt", merges);
}
std::string MergesText() {
  std::string text = "#version: 0.2\n";
  for (const std::string& merge : kMerges) text += merge + "\n";
  return text;
}

TEST(VocabularyAndMerges, EncodesAndDecodes) {
  TestFolder folder;
  WriteGpt2(folder, MergesText(), {"<|endoftext|>"});
  const auto t = LoadTokenizer(folder.path());
  EXPECT_EQ(t->vocab_size(), 261);
  EXPECT_THAT(t->Encode("hello he"), ElementsAre(258, 'o', 259));
  EXPECT_THAT(t->Encode("he<|endoftext|>", {.parse_special = true}), ElementsAre(256, 260));
  EXPECT_EQ(t->Encode("<|endoftext|>").size(), 13u);
  EXPECT_EQ(t->eos(), 260);
  EXPECT_TRUE(t->IsSpecial(260));
  EXPECT_THAT(t->Encode("\xff h\x80"), ElementsAre(0xff, ' ', 'h', 0x80));
  const std::string bytes = "\xff\u00e9 hello\n\n \xe2\x82";
  EXPECT_EQ(t->Decode(t->Encode(bytes)), bytes);
  EXPECT_EQ(LoadTokenizer(folder / "vocab.json")->vocab_size(), 261);
}

TEST(VocabularyAndMerges, NamesWhatIsWrong) {
  TestFolder folder;
  const auto complaint = [&] { return UserErrorOf([&] { LoadTokenizer(folder.path()); }); };
  WriteGpt2(folder, "h e\nh x\n", {});
  EXPECT_EQ(complaint(),
            (folder / "merges.txt") + ", line 2: a merge of a token that the vocabulary lacks: the string \"hx\"");
  WriteGpt2(folder, "h e\nhe\n", {});
  EXPECT_THAT(complaint(), HasSubstr("merges.txt, line 2: a damaged merge, expected two tokens"));
  WriteGpt2(folder, "h\u4e00 e\n", {});
  EXPECT_THAT(complaint(), HasSubstr("outside of the byte alphabet"));
  WriteGpt2(folder, MergesText(), {});
  for (const auto& [vocab, problem] : std::vector<std::pair<std::string, std::string>>{
           {R"({"a": 1})", "the id of the string \"a\" is out of place, expected 0 to 0, found"},
           {R"({"a": 0, "b": 0})", "two tokens have the id 0"},
           {R"({"a": -1})", "out of place"},
           {R"({"a": "b"})", "out of place"},
           {R"({"a": 0})", "not byte-level BPE"}}) {
    WriteFileAtomically(folder / "vocab.json", vocab);
    EXPECT_THAT(complaint(), AllOf(HasSubstr("vocab.json: "), HasSubstr(problem))) << vocab;
  }
}

TEST(VocabularyAndMerges, SpecialTokensOfTheConfig) {
  TestFolder folder;
  WriteGpt2(folder, MergesText(), {"<pad>"});
  WriteFileAtomically(folder / "tokenizer_config.json",
                      R"({"bos_token": "<s>", "eos_token": {"content": "<e>"}, "add_bos_token": true,
                          "added_tokens_decoder": {"261": {"content": "<s>", "special": true},
                                                   "262": {"content": "<e>", "special": true},
                                                   "263": {"content": " he ", "special": false}}})");
  const auto t = LoadTokenizer(folder.path());
  EXPECT_EQ(t->vocab_size(), 264);
  EXPECT_EQ(t->bos(), 261);
  EXPECT_EQ(t->eos(), 262);
  EXPECT_THAT(t->Encode("he<e> he ", {.add_special_tokens = true, .parse_special = true}),
              ElementsAre(261, 256, 262, 263));
  EXPECT_THAT(t->Encode("h he h"), ElementsAre('h', 263, 'h'));
  WriteFileAtomically(folder / "tokenizer_config.json", R"({"bos_token": "<none>"})");
  EXPECT_EQ(LoadTokenizer(folder.path())->bos(), std::nullopt);
}

TEST(Tiktoken, Llama3) {
  const std::string content = TestTiktoken({"he", "ll", "hell", " he"});
  EXPECT_TRUE(LooksLikeTiktoken(content));
  EXPECT_FALSE(LooksLikeTiktoken("{}"));
  const auto t = MakeTiktokenTokenizer(content, "f", {});
  EXPECT_EQ(t->vocab_size(), 128256);
  EXPECT_THAT(t->Encode("hello he 12345"), ElementsAre(258, 'o', 259, ' ', '1', '2', '3', '4', '5'));
  EXPECT_EQ(t->bos(), 128000);
  EXPECT_EQ(t->TokenId("<|eot_id|>"), 128009);
  EXPECT_EQ(t->TokenId("<|reserved_special_token_247|>"), 128255);
  EXPECT_THAT(t->Encode("he<|eot_id|>", {.parse_special = true}), ElementsAre(256, 128009));
  EXPECT_EQ(t->Decode(t->Encode("\xff hell\u00e9")), "\xff hell\u00e9");
}

TEST(Tiktoken, NamesWhatIsWrong) {
  const auto complaint = [](const std::string& text) {
    return UserErrorOf([&] { MakeTiktokenTokenizer(text, "f", {}); });
  };
  EXPECT_THAT(complaint(TestTiktoken({}, 300)), HasSubstr("f: a tiktoken file of an unknown kind"));
  EXPECT_THAT(complaint("IQ== 0\nIg== 2\n"), HasSubstr("line 2: ranks must rise by one from 0, expected 1, found 2"));
  EXPECT_THAT(complaint("IQ== 0\nIg=\n"), HasSubstr("line 2 is damaged, expected a base64 token and its rank"));
  EXPECT_THAT(complaint("IQ== 0\nI*== 1\n"), HasSubstr("line 2 is damaged"));
  EXPECT_THAT(complaint("IQ== 99999999999999999999\n"), HasSubstr("line 1 is damaged"));
}

TEST(LoadTokenizer, TellsKindsByContent) {
  TestFolder folder;
  WriteFileAtomically(folder / "any", SentencePieceTestModel({"\u2581a"}));
  EXPECT_EQ(LoadTokenizer(folder / "any")->vocab_size(), 261);
  WriteFileAtomically(folder / "any", TestTiktoken({}));
  EXPECT_EQ(LoadTokenizer(folder / "any")->vocab_size(), 128256);
  WriteFileAtomically(folder / "any", "what");
  EXPECT_THAT(UserErrorOf([&] { LoadTokenizer(folder / "any"); }),
              HasSubstr("this kind of tokenizer is not supported"));
}

TEST(LoadTokenizer, LlamaFoldersAddBos) {
  TestFolder folder;
  WriteFileAtomically(folder / "tokenizer.model", SentencePieceTestModel({"\u2581a"}));
  const auto ids = [&] { return LoadTokenizer(folder.path())->Encode("a", {.add_special_tokens = true}); };
  EXPECT_THAT(ids(), ElementsAre(260));
  WriteFileAtomically(folder / "tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_THAT(ids(), ElementsAre(1, 260));
  WriteFileAtomically(folder / "tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_THAT(ids(), ElementsAre(260, 2));
}

}  // namespace
}  // namespace taipan
