#include "text/gguf/gguf_vocabulary_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "base/test_folder.h"
#include "text/gguf/gguf_pre_tokenization.h"
#include "text/gguf/test_gguf_vocabularies.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void Write(const TestFolder& folder, const GgufVocabulary& v) {
  for (const auto& [name, content] : TokenizerFiles(v, "f")) WriteFileAtomically(folder / name, content);
}

// Every text of twelve parts gives the same ids and comes back.
void ExpectSameIds(const Tokenizer& a, const Tokenizer& b, bool user_defined) {
  uint32_t state = 1;
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      state = state * 1664525u + 1013904223u;
      static const char* const kParts[] = {"he",   "ll",    " ",  "\u00e9\u00e9", "12 ",         "a.",     "\n\n he",
                                           "</s>", "don't", "A9", "\u4f60",       "<|im_end|> ", "[INST]", "  x  "};
      text += kParts[(state >> 24) % (user_defined ? 14 : 13)];
    }
    for (const bool special : {false, true}) {
      const EncodeOptions options{.add_special_tokens = special, .parse_special = special};
      const std::vector<int32_t> ids = a.Encode(text, options);
      ASSERT_EQ(ids, b.Encode(text, options)) << text;
      ASSERT_EQ(a.Decode(ids), b.Decode(ids)) << text;
    }
  }
}

TEST(GgufVocabularyFiles, ByteLevelThereAndBack) {
  for (const PreTokenization& pre : KnownPreTokenizations()) {
    GgufVocabulary v = Gpt2Like();
    v.pre = pre.names.front();
    v.bos = 261;
    v.add_bos = pre.add_bos;
    v.add_eos = !pre.add_bos;
    v.chat_template = "{{ 'caf\u00e9' }}";
    SCOPED_TRACE(v.pre);
    TestFolder folder;
    Write(folder, v);
    const auto ours = MakeGgufTokenizer(v, "f"), theirs = LoadTokenizer(folder.path());
    EXPECT_EQ(theirs->vocab_size(), ours->vocab_size());
    EXPECT_EQ(theirs->bos(), 261);
    ExpectSameIds(*ours, *theirs, true);
    const FolderVocabulary back = ReadFolderVocabulary(folder.path(), 270);
    EXPECT_EQ(back.remark, "");
    EXPECT_EQ(back.vocabulary.pre, v.pre == "glm4" ? "llama-bpe" : v.pre);  // the same but for BOS
    EXPECT_EQ(back.vocabulary.merges, v.merges);
    EXPECT_EQ(back.vocabulary.types[261], GgufVocabulary::kControl);
    EXPECT_EQ(back.vocabulary.types[262], GgufVocabulary::kUserDefined);
    EXPECT_EQ(back.vocabulary.types[263], GgufVocabulary::kUnused);
    EXPECT_EQ(back.vocabulary.tokens[269], "[PAD269]");
    EXPECT_EQ(back.vocabulary.add_bos, v.add_bos);
    EXPECT_EQ(back.vocabulary.add_eos, v.add_eos);
    EXPECT_EQ(back.vocabulary.chat_template, v.chat_template);
    TestFolder again;  // what fills the rows of the model is no token of the files
    Write(again, back.vocabulary);
    EXPECT_EQ(ReadFile(again / "tokenizer.json"), ReadFile(folder / "tokenizer.json"));
    EXPECT_EQ(ReadFile(again / "tokenizer_config.json"), ReadFile(folder / "tokenizer_config.json"));
  }
}

TEST(GgufVocabularyFiles, SentencePieceThereAndBack) {
  for (const bool prefix : {true, false}) {
    GgufVocabulary v = LlamaLike({"\u2581he", "ll", "\u2581", "h", "e", "l", "\u00e9\u00e9", "\u00e9", "he"});
    v.add_space_prefix = prefix;
    v.chat_template = "x";
    v.eot = 3;
    TestFolder folder;
    Write(folder, v);
    const auto ours = MakeGgufTokenizer(v, "f"), theirs = LoadTokenizer(folder.path());
    EXPECT_EQ(theirs->bos(), 1);
    EXPECT_EQ(theirs->eos(), 2);
    ExpectSameIds(*ours, *theirs, true);
    EXPECT_THAT(EndOfTextIds(LoadTokenizerConfig(folder.path()), *theirs), ElementsAre(2, 3));
    const GgufVocabulary back = ReadFolderVocabulary(folder.path(), ours->vocab_size()).vocabulary;
    EXPECT_EQ(back.tokens, v.tokens);
    EXPECT_EQ(back.scores, v.scores);
    EXPECT_EQ(back.types, v.types);
    EXPECT_EQ(back.add_bos, true);
    EXPECT_EQ(back.add_space_prefix, prefix);
    EXPECT_EQ(back.unk, 0);
    EXPECT_EQ(back.eot, 3);
    EXPECT_EQ(back.chat_template, "x");
    EXPECT_EQ(ReadFolderVocabulary(folder.path(), 300).vocabulary.scores.size(), 300u);
  }
}

TEST(GgufVocabularyFiles, TheByteTokenizer) {
  TestFolder folder;
  WriteFileAtomically(folder / "tokenizer.json", ByteTokenizerJson());
  const GgufVocabulary v = ReadFolderVocabulary(folder.path(), 256).vocabulary;
  EXPECT_EQ(v.pre, "gpt-2");
  EXPECT_TRUE(v.merges.empty());
  ExpectSameIds(*MakeGgufTokenizer(v, "f"), ByteTokenizer(), true);
}

TEST(GgufVocabularyFiles, Gpt2FilesAndAddedPieces) {
  TestFolder folder;
  const std::vector<std::string> merges = {"h e", "l l"};
  WriteFileAtomically(folder / "vocab.json", TestVocabJson(TestSpellings(merges, {"<|endoftext|>"})));
  WriteFileAtomically(folder / "merges.txt", "#version: 0.2\nh e\nl l\n");
  const GgufVocabulary v = ReadFolderVocabulary(folder.path(), 259).vocabulary;
  EXPECT_EQ(v.pre, "gpt-2");
  EXPECT_EQ(v.merges, merges);
  EXPECT_EQ(v.eos, 258);
  ExpectSameIds(*MakeGgufTokenizer(v, "f"), *LoadTokenizer(folder.path()), true);

  TestFolder pieces;
  WriteFileAtomically(pieces / "tokenizer.model", SentencePieceTestModel({"\u2581a"}));
  WriteFileAtomically(pieces / "tokenizer_config.json",
                      R"({"added_tokens_decoder": {"261": {"content": "<|im_end|>", "special": true}}})");
  const GgufVocabulary added = ReadFolderVocabulary(pieces.path(), 262).vocabulary;
  EXPECT_EQ(added.tokens[261], "<|im_end|>");
  EXPECT_EQ(added.types[261], GgufVocabulary::kControl);
  EXPECT_EQ(added.add_bos, false);  // no class of Llama's
}

// Patterns as the models' own files have them; llama.cpp does the second in another way.
TEST(GgufVocabularyFiles, OriginalPatterns) {
  const auto read = [](const std::string& pattern) {
    TestFolder folder;
    Write(folder, Gpt2Like());
    Json json = ParseJson(ReadFile(folder / "tokenizer.json"), "f");
    const Json split = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    const Json bytes = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
    WriteFileAtomically(folder / "tokenizer.json", json.dump());
    return ReadFolderVocabulary(folder.path(), 263);
  };
  const FolderVocabulary bloom = read(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+");
  EXPECT_EQ(bloom.vocabulary.pre, "bloom");
  EXPECT_EQ(bloom.remark, "");
  const std::string upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])", lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  const std::string before = R"([^\r\n\p{L}\p{N}]?)", end = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|";
  const FolderVocabulary gpt4o = read(before + upper + "*" + lower + "+" + end + before + upper + "+" + lower + "*" +
                                      end + R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  EXPECT_EQ(gpt4o.vocabulary.pre, "gpt-4o");
  EXPECT_THAT(gpt4o.remark, HasSubstr("no capitals beyond ASCII"));
}

TEST(GgufVocabularyFiles, SaysWhatGgufCannotHold) {
  TestFolder folder;
  Write(folder, Gpt2Like());
  const std::string good = ReadFile(folder / "tokenizer.json");
  const auto with = [&](const std::function<void(Json&)>& change) {
    Json json = ParseJson(good, "f");
    change(json);
    WriteFileAtomically(folder / "tokenizer.json", json.dump());
    return UserErrorOf([&] { ReadFolderVocabulary(folder.path(), 263); });
  };
  EXPECT_EQ(with([](Json&) {}), "");
  EXPECT_THAT(with([](Json& j) { j["normalizer"] = {{"type", "NFKC"}}; }), HasSubstr("normalizer, expected none or"));
  EXPECT_THAT(with([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false; }),
              HasSubstr("pre_tokenizer.pretokenizers[0]: GGUF cannot hold this pre-tokenizer"));
  EXPECT_THAT(with([](Json& j) {
                j["pre_tokenizer"]["pretokenizers"][0] = Json::parse(
                    R"({"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": false})");
              }),
              HasSubstr("found x then 's|'t"));
  EXPECT_THAT(with([](Json& j) { j["model"]["ignore_merges"] = true; }),
              HasSubstr("the patterns of a model that llama.cpp knows"));
  EXPECT_THAT(with([](Json& j) { j["pre_tokenizer"] = nullptr; }), HasSubstr("ByteLevel"));
  EXPECT_THAT(with([](Json& j) {
                j["post_processor"] = Json::parse(
                    R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"SpecialToken":
                    {"id": "x"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"x": {"ids": [3]}}})");
              }),
              HasSubstr("puts around a text"));
  EXPECT_EQ(with([](Json& j) { j["normalizer"] = {{"type", "NFC"}}; }), "");
  EXPECT_THAT(ReadFolderVocabulary(folder.path(), 263).remark, HasSubstr("NFC"));
  EXPECT_THAT(UserErrorOf([&] { ReadFolderVocabulary(folder.path(), 262); }), HasSubstr("more tokens than the model"));

  TestFolder pieces;
  const auto with_model = [&](const std::string& more) {
    WriteFileAtomically(pieces / "tokenizer.model", SentencePieceTestModel({"\u2581a"}) + more);
    return UserErrorOf([&] { ReadFolderVocabulary(pieces.path(), 261); });
  };
  EXPECT_EQ(with_model(""), "");
  EXPECT_THAT(with_model(WireBytes(2, WireNumber(3, 1))), HasSubstr("one of the BPE type"));
  EXPECT_THAT(with_model(WireBytes(3, WireNumber(4, 1))), HasSubstr("remove_extra_whitespaces off"));
}

TEST(GgufVocabularyFiles, SaysWhatFilesCannotHold) {
  const auto complaint_after = [](GgufVocabulary v, const std::function<void(GgufVocabulary&)>& change) {
    change(v);
    return UserErrorOf([&] { TokenizerFiles(v, "f"); });
  };
  const GgufVocabulary gpt2 = Gpt2Like(), llama = LlamaLike({"\u2581a"});
  EXPECT_EQ(complaint_after(llama, [](auto&) {}), "");
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.tokens[262] = "\xff"; }), HasSubstr("token 262 is not UTF-8"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.tokens[262] = v.tokens[261]; }), HasSubstr("each token once"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.chat_template = "\xff"; }), HasSubstr("chat_template is not"));
  EXPECT_THAT(complaint_after(gpt2, [](auto& v) { v.pre = "klingon"; }), HasSubstr("klingon"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.types[0] = 1; }), HasSubstr("f: SentencePiece refuses"));
  EXPECT_THAT(complaint_after(llama, [](auto& v) { v.types[70] = 1; }), HasSubstr("f: SentencePiece refuses"));
}

}  // namespace
}  // namespace taipan
