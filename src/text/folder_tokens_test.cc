// The files beside a tokenizer file, for every kind of tokenizer file: ids as transformers 5.24 gives them, and the
// same ids after a conversion to GGUF and back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "text/gguf/gguf_vocabulary_files.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/tokenizer_config.h"
#include "text/vocabulary_test_files.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kPieces = {"\u2581a", "\u2581b", "\u2581", "a", "b", "\n"};  // 260 to 265
constexpr const char* kChat = "<|im_start|>a\nb <|im_end|> b\n<|im_start|>a";

std::vector<int32_t> Ids(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.Encode(text, {.parse_special = true});
}

void Write(const TestFolder& folder, const std::vector<std::pair<std::string, std::string>>& files) {
  for (const auto& [name, content] : files) WriteFileAtomically(folder / name, content);
}

// The ids of the folder, which must be those of its GGUF vocabulary and of the files written from that.
std::vector<int32_t> IdsEverywhere(const TestFolder& folder, const std::string& text, int64_t rows) {
  const auto tokenizer = LoadTokenizer(folder.path());
  const std::vector<int32_t> ids = Ids(*tokenizer, text);
  const GgufVocabulary v = ReadFolderVocabulary(folder.path(), rows).vocabulary;
  const auto of_gguf = MakeGgufTokenizer(v, "f");
  EXPECT_EQ(Ids(*of_gguf, text), ids) << "as GGUF";
  EXPECT_EQ(of_gguf->eos(), tokenizer->eos());
  TestFolder back;
  Write(back, TokenizerFiles(v, "f"));
  const auto again = LoadTokenizer(back.path());
  EXPECT_EQ(Ids(*again, text), ids) << "written again";
  EXPECT_EQ(again->eos(), tokenizer->eos());
  return ids;
}

std::string Decoder(const std::string& end_flags) {
  return R"("added_tokens_decoder": {"266": {"content": "<|im_start|>", "special": true, "normalized": false},
             "267": {"content": "<|im_end|>", "special": true, "normalized": false)" +
         end_flags + "}}";
}

TEST(FolderTokens, OfASentencePieceModel) {
  TestFolder folder;
  Write(folder, {{"tokenizer.model", SentencePieceTestModel(kPieces)}});
  const auto with = [&](const std::string& config) {
    WriteFileAtomically(folder / "tokenizer_config.json", config);
    return IdsEverywhere(folder, kChat, 300);
  };
  const std::string llama = R"({"tokenizer_class": "LlamaTokenizer", "eos_token": "<|im_end|>", )";
  // The space of SentencePiece goes before a text only, with "legacy" before each stretch of text.
  EXPECT_THAT(with(llama + Decoder("") + "}"), ElementsAre(266, 263, 265, 264, 262, 267, 261, 265, 266, 263));
  EXPECT_THAT(with(llama + R"("legacy": true, )" + Decoder("") + "}"),
              ElementsAre(266, 260, 265, 264, 262, 267, 262, 261, 265, 266, 260));
  EXPECT_THAT(with("{" + Decoder("") + "}"), ElementsAre(266, 260, 265, 264, 262, 267, 262, 261, 265, 266, 260));
  EXPECT_THAT(with(llama + Decoder(R"(, "lstrip": true, "rstrip": true)") + "}"),
              ElementsAre(266, 263, 265, 264, 267, 264, 265, 266, 263));
  EXPECT_EQ(LoadTokenizer(folder.path())->eos(), 267);
  EXPECT_TRUE(LoadTokenizer(folder.path())->IsSpecial(267));
  EXPECT_EQ(LoadTokenizer(folder.path())->vocab_size(), 268);
  EXPECT_EQ(LoadTokenizer(folder.path())->Decode(std::vector<int32_t>{260, 267}), "a<|im_end|>");
  EXPECT_THAT(ReadFolderVocabulary(folder.path(), 300).remark,
              HasSubstr("no white space beside the string \"<|im_end|>\""));
  // Without the special tokens' text as tokens, the text is text.
  EXPECT_EQ(LoadTokenizer(folder.path())->Encode("<|im_end|>").size(), 11u);
}

TEST(FolderTokens, OfAnOlderSentencePieceFolder) {
  TestFolder folder;
  Write(folder, {{"tokenizer.model", SentencePieceTestModel(kPieces)},
                 {"added_tokens.json", R"({"<|im_end|>": 267, "<|im_start|>": 266, "bb": 268})"},
                 {"special_tokens_map.json", R"({"eos_token": "<|im_end|>", "unk_token": {"content": "<unk>"}})"},
                 {"tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"})"}});
  EXPECT_THAT(IdsEverywhere(folder, kChat, 269), ElementsAre(266, 263, 265, 264, 262, 267, 261, 265, 266, 263));
  EXPECT_EQ(LoadTokenizer(folder.path())->eos(), 267);
  // What is not named special is a token in every text.
  EXPECT_THAT(LoadTokenizer(folder.path())->Encode("abba"), ElementsAre(260, 268, 263));
  WriteFileAtomically(folder / "tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer",
                                                            "add_prefix_space": false})");
  EXPECT_THAT(IdsEverywhere(folder, "abba", 269), ElementsAre(263, 268, 263));
}

// Where the library encodes, the space is left away too.
TEST(FolderTokens, OfASentencePieceModelThatTheLibraryEncodes) {
  TestFolder folder;
  std::string model = SentencePieceTestModel(kPieces);
  model += WireBytes(3, WireNumber(4, 1));  // remove_extra_whitespaces: not for our own merges
  Write(folder, {{"tokenizer.model", model},
                 {"tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", )" + Decoder("") + "}"}});
  EXPECT_THAT(Ids(*LoadTokenizer(folder.path()), "a<|im_end|>a"), ElementsAre(260, 267, 263));
}

const std::vector<std::string> kMerges = {"h e", "\u0120 he"};  // 256 he, 257 " he"; 258 <|endoftext|>

void WriteGpt2(const TestFolder& folder, const std::string& config) {
  std::string merges;
  for (const std::string& merge : kMerges) merges += merge + "\n";
  Write(folder, {{"vocab.json", TestVocabJson(TestSpellings(kMerges, {"<|endoftext|>"}))},
                 {"merges.txt", merges},
                 {"tokenizer_config.json", config}});
}

TEST(FolderTokens, OfVocabAndMerges) {
  TestFolder folder;
  WriteGpt2(folder, R"({"tokenizer_class": "GPT2Tokenizer"})");
  WriteFileAtomically(folder / "added_tokens.json", R"({"<|im_end|>": 261, "  ": 259, "   ": 260})");
  EXPECT_THAT(IdsEverywhere(folder, "  he   he<|im_end|> he", 262), ElementsAre(259, 256, 260, 256, 261, 257));
  EXPECT_EQ(LoadTokenizer(folder.path())->bos(), 258);
  EXPECT_TRUE(LoadTokenizer(folder.path())->IsSpecial(258));
  EXPECT_THAT(LoadTokenizer(folder.path())->Encode("  he<|im_end|>"), ElementsAre(259, 256, 261));
  WriteGpt2(folder, R"({"eos_token": "<|im_end|>", "added_tokens_decoder":
                        {"259": {"content": "<|im_end|>", "lstrip": true, "rstrip": true, "special": true},
                         "261": {"content": "he", "special": false, "single_word": true}}})");
  EXPECT_THAT(IdsEverywhere(folder, "he <|im_end|> hehe he", 300), ElementsAre(256, 259, 256, 256, ' ', 256));
  EXPECT_EQ(LoadTokenizer(folder.path())->eos(), 259);
  WriteGpt2(folder, R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true})");
  WriteFileAtomically(folder / "added_tokens.json", R"({"<|im_end|>": 259})");
  EXPECT_THAT(IdsEverywhere(folder, "he he<|im_end|>he", 300), ElementsAre(257, 257, 259, 257));
}

TEST(FolderTokens, OfATokenizerJson) {
  TestFolder folder;
  const auto with = [&](const std::string& config, const std::string& text) {
    WriteFileAtomically(folder / "tokenizer_config.json", config);
    return IdsEverywhere(folder, text, 300);
  };
  TestFolder gpt2;
  WriteGpt2(gpt2, "{}");
  Write(folder, TokenizerFiles(ReadFolderVocabulary(gpt2.path(), 259).vocabulary, "f"));
  const std::string tokens = R"({"eos_token": "<|im_end|>", "added_tokens_decoder":
      {"258": {"content": "<|endoftext|>", "lstrip": true, "special": true},
       "259": {"content": "<|im_start|>", "special": true}, "260": {"content": "<|im_end|>", "special": true}}})";
  EXPECT_THAT(with(tokens, "<|im_start|>he <|endoftext|> he<|im_end|>"), ElementsAre(259, 256, 258, 257, 260));
  EXPECT_EQ(LoadTokenizer(folder.path())->eos(), 260);
  EXPECT_THAT(with(R"({"bos_token": "<s>", "eos_token": "<|endoftext|>"})", "<s>he"), ElementsAre('<', 's', '>', 256));
  EXPECT_EQ(LoadTokenizer(folder.path())->bos(), std::nullopt);
  EXPECT_THAT(
      with(R"({"extra_special_tokens": ["<|a|>"], "additional_special_tokens": {"b": "<|b|>"}})", "<|b|>he<|a|>"),
      ElementsAre(260, 256, 259));
  // A token that is named too counts once, in the place of its name.
  EXPECT_THAT(with(R"({"eos_token": "<|a|>", "pad_token": "<|a|>", "extra_special_tokens": ["<|b|>", "<|a|>"]})",
                   "<|b|>he<|a|>"),
              ElementsAre(260, 256, 259));
  // The class of one model acts on add_prefix_space, the general one does not.
  EXPECT_THAT(with(R"({"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": true})", "he"), ElementsAre(257));
  EXPECT_THAT(with(R"({"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": true})", "he"),
              ElementsAre(256));
}

TEST(FolderTokens, OfATiktokenFile) {
  TestFolder folder;
  Write(folder, {{"tokenizer.model", TestTiktoken({"he"})},
                 {"tokenizer_config.json",
                  R"({"eos_token": "<|im_end|>", "added_tokens_decoder":
                      {"128002": {"content": "<|im_start|>", "special": true},
                       "128256": {"content": "<|im_end|>", "special": true, "rstrip": true}}})"}});
  const auto tokenizer = LoadTokenizer(folder.path());
  EXPECT_THAT(Ids(*tokenizer, "<|im_start|>he<|im_end|> he"), ElementsAre(128002, 256, 128256, 256));
  EXPECT_EQ(tokenizer->eos(), 128256);
  EXPECT_EQ(tokenizer->vocab_size(), 128257);
}

TEST(FolderTokens, EveryKnownEndOfATurnEndsAText) {
  TestFolder folder;
  WriteGpt2(folder, R"({"added_tokens_decoder": {"259": {"content": "<|im_end|>", "special": true},
      "260": {"content": "<|tool|>", "special": true}, "261": {"content": "<|eot_id|>"}}})");
  WriteFileAtomically(folder / "generation_config.json", R"({"eos_token_id": -1})");
  WriteFileAtomically(folder / "config.json", R"({"eos_token_id": [5, 6]})");
  const auto ends = [&] { return EndOfTextIds(LoadTokenizerConfig(folder.path()), *LoadTokenizer(folder.path())); };
  EXPECT_THAT(ends(), ElementsAre(5, 6, 258, 259, 261));
  // Of harmony's, <|end|> ends a part of an answer only.
  WriteGpt2(folder, R"({"added_tokens_decoder": {"259": {"content": "<|return|>"}, "260": {"content": "<|call|>"},
      "261": {"content": "<|end|>"}}})");
  EXPECT_THAT(ends(), ElementsAre(5, 6, 258, 259, 260));
}

}  // namespace
}  // namespace taipan
