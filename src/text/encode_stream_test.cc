// Texts that are encoded as they come have the ids of the whole: for every kind of tokenizer, wherever they are cut.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/test_fuzz.h"
#include "text/gguf/gguf_pre_tokenization.h"
#include "text/gguf/gguf_vocabulary.h"
#include "text/gguf/test_gguf_vocabularies.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/vocabulary_files.h"
#include "text/vocabulary_test_files.h"

namespace taipan {
namespace {

struct Kind {
  std::string name;
  std::unique_ptr<Tokenizer> tokenizer;
};

// Every normalizer, pre-tokenizer and kind of added token that is supported.
void AddJsonKinds(std::vector<Kind>& kinds) {
  const Json cases = ParseJson(ReadFile("tests/golden/tokenizers/cases.json"), "cases");
  for (const Json& one : cases["cases"]) {
    Json json = {{"version", "1.0"}, {"model", cases["models"][one["model"].get<std::string>()]}};
    for (const char* part : {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
      json[part] = one[part];
    }
    const std::string name = "tokenizer.json " + one["name"].get<std::string>();
    kinds.push_back({name, ReadTokenizerJson(json, name)});
  }
}

void AddGgufKinds(std::vector<Kind>& kinds) {
  for (const PreTokenization& pre : KnownPreTokenizations()) {
    GgufVocabulary v = Gpt2Like();
    v.pre = pre.names.front();
    kinds.push_back({std::string("gguf ") + pre.names.front(), MakeGgufTokenizer(v, "test")});
  }
  GgufVocabulary each = Gpt2Like();
  each.space_prefix = "each";
  kinds.push_back({"gguf, a space before each stretch", MakeGgufTokenizer(each, "test")});
  const std::string space = "\u2581";
  for (const bool crossing : {false, true}) {
    std::vector<std::string> pieces = {space + "t", "he", space + "the", space, "a", "d",     "d" + space,
                                       "l",         "ll", "t",           "h",   "e", "\u00e9"};
    if (!crossing) std::erase(pieces, "d" + space);
    GgufVocabulary v = LlamaLike(pieces);
    kinds.push_back({fmt::format("gguf llama, pieces across words: {}", crossing), MakeGgufTokenizer(v, "test")});
    v.space_prefix = "first";
    kinds.push_back({"gguf llama, one prefix", MakeGgufTokenizer(v, "test")});
    for (const bool prefix : {false, true}) {
      for (const bool first_only : {false, true}) {
        const SentencePieceOptions options{.add_bos = true, .add_eos = true, .prefix_first_only = first_only};
        kinds.push_back({fmt::format("SentencePiece {} {} {}", crossing, prefix, first_only),
                         MakeSentencePieceTokenizer(SentencePieceTestModel(pieces, prefix), "test", options)});
      }
    }
  }
}

std::vector<Kind> AllKinds() {
  std::vector<Kind> kinds;
  kinds.push_back({"bytes", std::make_unique<ByteTokenizer>()});
  const std::vector<std::string> merges = {"h e", "l l", "he ll", "\u0120 he", "1 2"};
  const std::string vocab = TestVocabJson(TestSpellings(merges, {"<|endoftext|>"}));
  kinds.push_back({"vocab.json", MakeGpt2Tokenizer({vocab, "vocab.json"},
                                                   {"#version: 0.2\nh e\nl l\nhe ll\n\u0120 he\n1 2\n", "m"}, {})});
  kinds.push_back({"tiktoken", MakeTiktokenTokenizer(TestTiktoken({"he", " h", " he", "ll", "12"}), "test", {})});
  AddJsonKinds(kinds);
  AddGgufKinds(kinds);
  return kinds;
}

const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kinds = AllKinds();
  return kinds;
}

// Words, what stands between them, and all that might make a cut unsafe.
std::string RandomText(Draws& draw, size_t parts) {
  static const std::vector<std::string> kParts = {" ",
                                                  " ",
                                                  " ",
                                                  " ",
                                                  "he",
                                                  "hell",
                                                  "the",
                                                  "Wo",
                                                  "wo",
                                                  "d",
                                                  "a",
                                                  "x",
                                                  "1",
                                                  "12",
                                                  "1234",
                                                  ".",
                                                  ",",
                                                  "!",
                                                  "'s",
                                                  "'",
                                                  "\n",
                                                  "\r\n",
                                                  "\t",
                                                  "  ",
                                                  "   ",
                                                  "\u00e9",
                                                  "e\u0301",
                                                  "\u0301",
                                                  "\u00a0",
                                                  "\u2581",
                                                  "\u4e2d\u6587",
                                                  "\u3000",
                                                  "\U0001F600",
                                                  "\u0437\u0434",
                                                  "\u00b4",
                                                  "\uac00",
                                                  "\u1100",
                                                  "\xff",
                                                  "\xe2\x96",
                                                  "<s>",
                                                  "</s>",
                                                  "<|im_end|>",
                                                  "<|endoftext|>",
                                                  "  x  ",
                                                  "[INST]",
                                                  "<tok>",
                                                  "``",
                                                  "\u01c5",
                                                  "\u0130",
                                                  "/",
                                                  "$",
                                                  " he",
                                                  " 12",
                                                  "hello world",
                                                  "x y"};
  std::string text;
  for (size_t i = 0; i < parts; ++i) text += draw.OneOf(kParts);
  return text;
}

// The spellings of a tokenizer's added tokens, as parts of a text.
std::string WithTokens(std::string text, const Tokenizer& tokenizer, Draws& draw) {
  for (int32_t id = 0; id<tokenizer.vocab_size(); id += tokenizer.vocab_size()> 1000 ? 997 : 1) {
    if (!tokenizer.IsAdded(id)) continue;
    for (int i = 0; i < 3; ++i) text.insert(draw.Below(text.size() + 1), tokenizer.TokenBytes(id));
  }
  return text;
}

std::vector<int32_t> Streamed(const Tokenizer& tokenizer, const std::string& text, const EncodeOptions& options,
                              size_t enough, Draws& draw) {
  EncodeStream stream(tokenizer, options, enough);
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size();) {
    const size_t size = 1 + draw.Below(7);
    const std::vector<int32_t> part = stream.Append(std::string_view(text).substr(at, size));
    ids.insert(ids.end(), part.begin(), part.end());
    at += size;
  }
  const std::vector<int32_t> last = stream.Finish();
  ids.insert(ids.end(), last.begin(), last.end());
  return ids;
}

TEST(EncodeStream, TheIdsOfTheWholeTextForEveryKind) {
  uint32_t input = 0;
  for (const Kind& kind : Kinds()) {
    for (int round = 0; round < 3; ++round) {
      Draws draw(5, ++input);
      const std::string text = WithTokens(RandomText(draw, 100), *kind.tokenizer, draw);
      const EncodeOptions options{.add_special_tokens = round % 2 == 0, .parse_special = round != 1};
      const std::vector<int32_t> whole = kind.tokenizer->Encode(text, options);
      ASSERT_EQ(Streamed(*kind.tokenizer, text, options, 1 + draw.Below(40), draw), whole)
          << kind.name << " input " << input << ": " << ToValidUtf8(text);
    }
  }
}

// Every cut that is offered for a beginning of the text is right for all of it.
TEST(EncodeStream, CutsDoNotDependOnWhatFollows) {
  uint32_t input = 0;
  for (const Kind& kind : Kinds()) {
    Draws draw(6, ++input);
    const std::string text = RandomText(draw, 60);
    const std::vector<int32_t> whole = kind.tokenizer->Encode(text);
    for (size_t size = 0; size < text.size(); size += 1 + draw.Below(4)) {
      const size_t cut = kind.tokenizer->CutIn(std::string_view(text).substr(0, size), {});
      ASSERT_LE(cut, size);
      if (cut == 0) continue;
      std::vector<int32_t> ids = kind.tokenizer->Encode(std::string_view(text).substr(0, cut), {.ends = false});
      const std::vector<int32_t> rest = kind.tokenizer->Encode(std::string_view(text).substr(cut), {.begins = false});
      ids.insert(ids.end(), rest.begin(), rest.end());
      ASSERT_EQ(ids, whole) << kind.name << ", cut at " << cut << " of " << size << ": " << ToValidUtf8(text);
    }
  }
}

// Little is held of a text with words, but by kinds whose words may reach across spaces or depend on all before them.
TEST(EncodeStream, HoldsLittle) {
  const std::vector<std::string> kWhole = {"word boundary", "lines",
                                           "lazy",          "empty matches",
                                           "MergedWith",    "Contiguous",
                                           "replace regex", "no decoder",
                                           "added {",       "laguna",
                                           "tiny_aya",      "afmoe",
                                           "superbpe",      "pieces across words: true",
                                           "one prefix",    "SentencePiece true"};
  std::string text;
  for (int i = 0; i < 400; ++i) text += i % 7 == 0 ? "hello, wall\n" : " the held word 123.";
  for (const Kind& kind : Kinds()) {
    EncodeStream stream(*kind.tokenizer, {}, 512);
    size_t most = 0;
    for (size_t at = 0; at < text.size(); at += 256) {
      stream.Append(std::string_view(text).substr(at, 256));
      most = std::max(most, stream.held());
    }
    const bool may = std::any_of(kWhole.begin(), kWhole.end(),
                                 [&](const std::string& part) { return kind.name.find(part) != kind.name.npos; });
    EXPECT_LT(most, may ? text.size() + 1 : 1536u) << kind.name;
  }
}

}  // namespace
}  // namespace taipan
