// Random mutations of vocabularies, configs and chat templates: each is read, and what is read can be used, or it is
// refused by a UserError of one line (base/test_fuzz.h).

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/test_folder.h"
#include "base/test_fuzz.h"
#include "text/chat_template.h"
#include "text/gguf/gguf_vocabulary_files.h"
#include "text/sentencepiece/sentencepiece_test_model.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/vocabulary_files.h"
#include "text/vocabulary_test_files.h"

namespace taipan {
namespace {

// Up to four changes of bytes, or one of `pieces` put in.
std::string Mutated(std::string text, const std::vector<std::string>& pieces, Draws& draw) {
  for (size_t changes = draw.Below(5); changes > 0; --changes) {
    if (draw.Below(3) > 0) {
      ChangeBytes(text, draw);
    } else {
      const size_t at = draw.Below(text.size() + 1);
      text.replace(at, draw.Below(2) * draw.Below(16), draw.OneOf(pieces));
    }
  }
  return text;
}

void Use(const Tokenizer& t) {
  const std::string text = "hello <s>he 12\xff\xc3\xa9 \n\xe2\x96\x81<|endoftext|> ab";
  for (const bool special : {false, true}) {
    const std::vector<int32_t> ids = t.Encode(text, {.add_special_tokens = special, .parse_special = special});
    for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < t.vocab_size());
    EXPECT_LT(t.Decode(ids).size(), 100'000u);
  }
  for (int32_t id = 0; id < std::min<int64_t>(t.vocab_size(), 400); ++id) t.TokenBytes(id);
}

// `f` reads and uses what it makes of the draws. Neither all nor none of it can be read.
template <class F>
void FuzzSome(F&& f) {
  const FuzzCounts counts = Fuzz("", f, 500);
  EXPECT_GT(counts.parsed, counts.inputs / 50);
  EXPECT_LT(counts.parsed, counts.inputs);
}

const std::vector<std::string> kWirePieces = {std::string("\x0a\x00", 2),
                                              "\x0a\x05",
                                              "\x15",
                                              "\x18\x06",
                                              "\x18\x03",
                                              "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                                              "\xff\xff\xff\xff\x0f",
                                              "<0x00>",
                                              "<unk>",
                                              "\xe2\x96\x81",
                                              "\x1a",
                                              "\x12",
                                              std::string(4, '\0')};

TEST(FuzzVocabularies, SentencePiece) {
  const std::string small = SentencePieceTestModel({"\u2581a", "ab", "\u2581he", "\u2581"});
  const std::string map =
      WireBytes(3, WireBytes(2, std::string("\x00\x04\x00\x00", 4) + std::string(1024, '\0') + std::string(8, '\0')));
  const std::vector<std::string> seeds = {small, SentencePieceTestModel({"a"}, false), small + map};
  FuzzSome([&](Draws& draw) {
    std::string content = draw.OneOf(seeds);
    // Most changes near the end, where the settings are: the byte pieces are many and alike.
    const size_t keep = draw.Below(2) * (content.size() - std::min<size_t>(content.size(), 120));
    content = content.substr(0, keep) + Mutated(content.substr(keep), kWirePieces, draw);
    Use(*MakeSentencePieceTokenizer(content, "input", {.add_bos = true, .add_eos = true}));
  });
}

TEST(FuzzVocabularies, VocabularyAndMerges) {
  const std::vector<std::string> merges = {"h e", "l l", "he ll", "\u0120 he"};
  const std::string vocab = TestVocabJson(TestSpellings(merges, {"<|endoftext|>"}));
  const std::vector<std::string> pieces = {
      "0", "-1",       "1e99", "18446744073709551616", "null", "\"a\":1,", "{", "[", "\"", "\\ud800", "\n",
      " ", "#version", "</w>"};
  FuzzSome([&](Draws& draw) {
    const bool change_vocab = draw.Below(2) == 0;
    const std::string lines = "#version: 0.2\nh e\nl l\nhe ll\n\u0120 he\n";
    Use(*MakeGpt2Tokenizer({change_vocab ? Mutated(vocab, pieces, draw) : vocab, "v"},
                           {change_vocab ? lines : Mutated(lines, pieces, draw), "m"}, {}));
  });
}

TEST(FuzzVocabularies, Tiktoken) {
  // A whole file is too large to be read thousands of times: what is not damaged ends at the number of ranks.
  const std::string seed = TestTiktoken({"he", "ll", "hell"}, 300);
  const std::vector<std::string> pieces = {"=", "==", " ", "\n", "IQ==", "0", "-1", "99999999999999999999"};
  FuzzSome([&](Draws& draw) {
    const std::string problem = UserErrorOf([&] { MakeTiktokenTokenizer(Mutated(seed, pieces, draw), "f", {}); });
    if (problem.find("unknown kind") == problem.npos) throw UserError(problem, "");
  });
}

// f(vocabulary) with changes to small ones of both models.
void FuzzGguf(const std::function<void(const GgufVocabulary&)>& f) {
  GgufVocabulary gpt2;
  gpt2.model = "gpt2";
  gpt2.pre = "llama-bpe";
  gpt2.merges = {"h e", "l l", "he ll", "\u0120 he"};
  gpt2.tokens = TestSpellings(gpt2.merges, {"<|endoftext|>"});
  gpt2.types.assign(gpt2.tokens.size(), 1);
  gpt2.types.back() = 3;
  gpt2.bos = 260;
  GgufVocabulary llama = gpt2;
  llama.model = "llama";
  for (int b = 0; b < 16; ++b) {
    llama.tokens[static_cast<size_t>(b)] = fmt::format("<0x{:02X}>", b * 16);
    llama.types[static_cast<size_t>(b)] = 6;
  }
  llama.scores.assign(llama.tokens.size(), 0);
  for (size_t i = 256; i < 260; ++i) llama.scores[i] = -static_cast<float>(i);
  const std::vector<std::string> pieces = {
      " ", "\u0120", "\u2581", "<0x41>", "h", "e", "", "<s>", std::string(1500, 'x')};
  FuzzSome([&](Draws& draw) {
    GgufVocabulary v = draw.Below(2) == 0 ? gpt2 : llama;
    for (size_t changes = draw.Below(4); changes > 0; --changes) {
      std::string& token = v.tokens[draw.Below(2) == 0 ? draw.Below(v.tokens.size()) : 256 + draw.Below(5)];
      switch (draw.Below(7)) {
        case 0:
        case 1:
          token = Mutated(token, pieces, draw);
          break;
        case 2:
          v.types[draw.Below(v.types.size())] = static_cast<int32_t>(draw.Below(9)) - 1;
          break;
        case 3:
          if (!v.scores.empty())
            v.scores[draw.Below(v.scores.size())] = std::vector<float>{0, 1, -1e30f, INFINITY, NAN}[draw.Below(5)];
          break;
        case 4:
          v.merges[draw.Below(v.merges.size())] = Mutated(draw.OneOf(v.merges), pieces, draw);
          break;
        case 5:
          v.bos = static_cast<int32_t>(draw.Below(400)) - 20;
          break;
        default:
          v.pre = Mutated(v.pre, pieces, draw);
      }
    }
    f(v);
  });
}

TEST(FuzzVocabularies, Gguf) {
  FuzzGguf([](const GgufVocabulary& v) { Use(*MakeGgufTokenizer(v, "input")); });
}

// What is written can be read, and says the same.
TEST(FuzzVocabularies, GgufAsFiles) {
  TestFolder folder;
  FuzzGguf([&](const GgufVocabulary& v) {
    const auto files = TokenizerFiles(v, "input");
    for (const auto& [name, content] : files) std::ofstream(folder / name, std::ios::binary) << content;
    const std::unique_ptr<Tokenizer> read = LoadTokenizer(folder / files.front().first);
    EXPECT_LE(read->vocab_size(), static_cast<int64_t>(v.tokens.size()));
    Use(*read);
    std::filesystem::remove(folder / "tokenizer.model");
  });
}

// Files that tokenizers read, damaged or not, become a vocabulary that can be used, or are refused.
TEST(FuzzVocabularies, FoldersAsGguf) {
  TestFolder folder;
  const std::vector<std::string> merges = {"h e", "l l", "he ll", "\u0120 he"};
  std::ofstream(folder / "vocab.json") << TestVocabJson(TestSpellings(merges, {"<|endoftext|>"}));
  std::ofstream(folder / "merges.txt") << "h e\nl l\nhe ll\n\u0120 he\n";
  const GgufVocabulary gpt2 = ReadFolderVocabulary(folder.path(), 261).vocabulary;
  const std::string json = TokenizerFiles(gpt2, "seed").front().second;
  const std::string pieces = SentencePieceTestModel({"\u2581a", "ab", "\u2581he", "\u2581"});
  const std::vector<std::string> parts = {"null", "0",     "-1",      "[]",         "{}",
                                          "true", "false", "\"NFC\"", "\"Digits\"", "\""};
  FuzzSome([&](Draws& draw) {
    const bool sentencepiece = draw.Below(2) == 0;
    std::string content = sentencepiece ? pieces : json;
    // Most changes near one end, where the settings are.
    const size_t settings = std::min<size_t>(content.size(), sentencepiece ? 60 : 1000);
    const size_t begin = sentencepiece ? content.size() - settings : 0;
    content.replace(begin, settings,
                    Mutated(content.substr(begin, settings), sentencepiece ? kWirePieces : parts, draw));
    std::filesystem::remove(folder / "tokenizer.model");
    std::ofstream(folder / "tokenizer.json", std::ios::binary) << json;
    std::ofstream(folder / (sentencepiece ? "tokenizer.model" : "tokenizer.json"), std::ios::binary) << content;
    const GgufVocabulary v = ReadFolderVocabulary(folder.path(), 270).vocabulary;
    EXPECT_EQ(v.tokens.size(), 270u);
    Use(*MakeGgufTokenizer(v, "input"));
  });
}

TEST(FuzzVocabularies, Configs) {
  const std::string config =
      R"({"bos_token": {"content": "A"}, "eos_token": "B", "add_bos_token": true, "tokenizer_class": "X",
          "added_tokens_decoder": {"256": {"content": "<x>", "special": true}},
          "chat_template": [{"name": "default", "template": "{{ 1 }}"}]})";
  const std::string generation = R"({"bos_token_id": 1, "eos_token_id": [2, 7]})";
  const std::vector<std::string> pieces = {"null", "0",       "-1",   "1e400",      "\"\"",       "[",
                                           "{",    "]",       "}",    ",",          ":",          "\"256\"",
                                           "true", "\\u0000", "\xff", "4294967296", "\"content\""};
  FuzzSome([&](Draws& draw) {
    TokenizerConfig read;
    ReadTokenizerConfig(Mutated(config, pieces, draw), "input", read);
    ReadGenerationConfig(Mutated(generation, pieces, draw), "input", read);
    ByteTokenizer bytes;
    ApplySpecialTokens(read, bytes);
    EndOfTextIds(read, bytes);
  });
}

TEST(FuzzVocabularies, ChatTemplates) {
  const std::vector<std::string> seeds = {
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ bos_token }}{% endif %}"
      "{{'<|' + message['role'] + '\n' + message.content | trim ~ '|>' }}{% endfor %}{% if add_generation_prompt %}x{% "
      "endif %}",
      "{%- set ns = namespace(a=1, b='') -%}\n{%- for m in messages[::-1] if m.role in ['user', 'x'] %}\n"
      "  {%- set ns.a = (ns.a + loop.index0) * 3 % 7 // 2 %}{# c #}\n{{ m.content.split(' ')[-1].strip('x')[1:] }}"
      "{%- else -%} none {%- endfor %}{{ ns.a }}{{ ns.b if ns.a is odd else messages | tojson }}",
      "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{% for i in range(3) %}{{ f(i, b='k') | replace('k', i ~ '') }}"
      "{% if i == 1 %}{% break %}{% endif %}{% endfor %}{{ messages | selectattr('role', 'eq', 'user') | list | length "
      "}}",
      "{% macro g(x) %}{{ caller(x) }}{{ varargs }}{% endmacro %}{% call(y) g('%05.1f|%s' % (1.5, messages)) %}{{ y "
      "}}{% "
      "endcall %}{% with a = 1, b = (2, 3) %}{% set c, d = b %}{{ '{:>{w}}{!r}'.format(c, d, w=3) }}{% endwith %}"
      "{% filter upper | indent(2) %}{{ [1.5, {'k': ()}] }}{% endfilter %}{% raw %}{{ {% endraw %}"
      "{% for t in [[[]], []] recursive %}{{ loop.depth }}{{ loop(t) if t }}{% endfor %}{{ messages | "
      "map(attribute='role') "
      "| sort | unique | join(',') | replace('', '-') }}{{ 7 / 2 ** 2 }}{{ messages | groupby('role') | "
      "tojson(indent=2) }}"};
  const std::vector<std::string> pieces = {"{{",
                                           "}}",
                                           "{%",
                                           "%}",
                                           "{%-",
                                           "-%}",
                                           "{#",
                                           "#}",
                                           "(",
                                           ")",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           "'",
                                           "\"",
                                           "|",
                                           ".",
                                           ",",
                                           "~",
                                           " is ",
                                           " in ",
                                           " not ",
                                           " if ",
                                           " else ",
                                           "f(",
                                           "ns",
                                           "messages",
                                           "-1",
                                           "0",
                                           "99",
                                           "999999999",
                                           "\\u00e9",
                                           "\\ud800",
                                           "endfor",
                                           "endif",
                                           "for i in messages",
                                           "trim",
                                           "tojson",
                                           "loop",
                                           "[::-1]",
                                           " and ",
                                           " or ",
                                           "==",
                                           "//",
                                           "%",
                                           "none",
                                           "\xc2\xa0",
                                           "\xff"};
  FuzzSome([&](Draws& draw) {
    const ChatTemplate chat(Mutated(draw.OneOf(seeds), pieces, draw), "input", {{"bos_token", "<s>"}});
    chat.Render({{"system", "S"}, {"user", " a bx"}, {"assistant", "\xff\u00e9"}}, draw.Below(2) == 0);
  });
}

}  // namespace
}  // namespace taipan
