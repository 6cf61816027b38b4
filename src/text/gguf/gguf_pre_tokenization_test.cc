#include "text/gguf/gguf_pre_tokenization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "text/gguf/gguf_vocabulary.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"
#include "text/vocabulary_test_files.h"

namespace taipan {
namespace {

// Something for every pattern.
const std::string kText =
    "It's IT'S 1234567 x1 y=~a_b/\n\r\n  a.B(c|d)!!  \tz\u4f60\u597d\u3002\uff13\u304b \u30cf\ud55c\uae00 "
    "\u0915\u093f\u00e9"
    "'\u00c9a\u0411\u0431\u00e9\u2026\u3000q\u3000 <12>\n \n  aBcdE x's b\u00e9\u0411b \u0915\u0915\u093f\u0915 a b "
    "c?!\n\n.     I";

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (size_t i = 0; i < text.size(); i += characters.back().size()) {
    characters.push_back(text.substr(i, Utf8CharacterSize(text.substr(i))));
  }
  return characters;
}

// A vocabulary with a token for each character of the text and each pair of them, so that most cuts can be seen.
GgufVocabulary PairVocabulary() {
  GgufVocabulary v;
  v.model = "gpt2";
  std::vector<std::string> spelled;
  for (const std::string& character : Characters(kText)) {
    const std::string spelling = SpellBytes(character);
    if (std::find(spelled.begin(), spelled.end(), spelling) == spelled.end()) spelled.push_back(spelling);
  }
  for (const std::string& character : spelled) {
    const std::vector<std::string> units = Characters(character);
    std::string before = units[0];
    for (size_t i = 1; i < units.size(); before += units[i++]) {
      const std::string merge = before + " " + units[i];
      if (std::find(v.merges.begin(), v.merges.end(), merge) == v.merges.end()) v.merges.push_back(merge);
    }
  }
  for (const std::string& a : spelled) {
    for (const std::string& b : spelled) v.merges.push_back(a + " " + b);
  }
  v.tokens = TestSpellings(v.merges, {});
  return v;
}

struct Case {
  const char *name, *sizes;  // characters of each token of the text
};

// What llama.cpp gives, printed by tools/interchange/check_llama_words.py --values.
constexpr Case kCases[] = {
    {"gpt-2", "22121122222122111122211111121212111122211112211112211212222222121112222111222"},
    {"smollm", "2212111111111121221111222111111212121111222111122111121111212222222121112222111222"},
    {"llama-bpe", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"dbrx", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"glm4", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"qwen2", "2212211111111212212221222221222111222222212121122122222221212222221222"},
    {"qwen35", "2212211111111212212221222221222111222222212121122122222221221222221222"},
    {"seed-coder", "221221111111121221212112222212221112222222121211112122222221212222221222"},
    {"ufakzeka", "2212211111111212212221222221222111222222212121122122222221212222221222"},
    {"laguna", "22122111111112122121111122222122211122222221212111111122222221212222221222"},
    {"minicpm5", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"falcon", "21112111212112122111122211111121212111122211112211121211212222112212111222221222"},
    {"default", "21112111212112122111122211111121212111122211112211121211212222112212111222221222"},
    {"tekken", "22122111111112122122212222212221112222222121211221221122221212222221222"},
    {"gpt-4o", "22122121211212212221222221222111222222212122221221122221212222221222"},
    {"granite-embed-multi-97m", "22122121211212212221222221222111222222212122221221122221221222221222"},
    {"youtu", "22122111111112122122212222212221111122222212121122122222221221222221222"},
    {"tiny_aya", "2212211212121221222122222122211122222221212222122222221221222221222"},
    {"kimi-k2", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"deepseek-llm", "2111211122212122111111112111111212221111211211112112122111112222112211222222111222"},
    {"deepseek-coder", "211121111111111212211111111211111121222111121111111221212111111122221122112112222111222"},
    {"deepseek-v3", "221221212112122122212222212221111122211221212222122222221221222221222"},
    {"spark2_5", "2212211111111212212111112222212221111122211221212111121222222212212222111222"},
    {"afmoe", "221221121212122122212222212221111212211221212222122222221221222221222"},
    {"bailingmoe", "2212211111111212212221222221222111222222212121122122222221212222221222"},
    {"exaone-moe", "22122111111112122122212222212221112222222121211221222222212212221211222"},
    {"jais-2", "2212212121121221222122222122211122222221212222122222221212222221222"},
    {"superbpe", "221221121212122222122222222211122222212212222222122221221222221222"},
    {"bloom", "22122222221222222211111121212112222222221122112122222221221222221222"},
    {"viking", "22122111111112122222221111112121211112222222211211112122222221221222221222"},
    {"chameleon", "211121111111111212111111111211111111112121111222111122111211111112221211221211122211111222"},
};

TEST(GgufPreTokenization, CutsAsLlamaCpp) {
  GgufVocabulary v = PairVocabulary();
  for (const Case& one : kCases) {
    v.pre = one.name;
    const auto tokenizer = MakeGgufTokenizer(v, "f");
    std::string sizes, all;
    for (const int32_t id : tokenizer->Encode(kText)) {
      const std::string bytes(tokenizer->TokenBytes(id));
      sizes += std::to_string(Characters(bytes).size());
      all += bytes;
    }
    EXPECT_EQ(sizes, one.sizes) << one.name;
    EXPECT_EQ(all, kText) << one.name;
  }
}

TEST(GgufPreTokenization, EveryRowHasACase) {
  for (const PreTokenization& known : KnownPreTokenizations()) {
    const bool tested = std::any_of(std::begin(kCases), std::end(kCases),
                                    [&](const Case& one) { return known.names.front() == std::string(one.name); });
    EXPECT_TRUE(tested) << known.names.front();
  }
}

TEST(GgufPreTokenization, LongTexts) {
  GgufVocabulary v = PairVocabulary();
  std::string letters, phrases, spaces(20'000, ' '), digits(5'000, '1');
  while (letters.size() < 50'000) letters += "ab", phrases += "ab c ";
  for (const PreTokenization& known : KnownPreTokenizations()) {
    v.pre = known.names.front();
    const auto tokenizer = MakeGgufTokenizer(v, "f");
    for (const std::string& text : {letters, phrases, spaces, digits}) {
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text) << v.pre;
    }
  }
}

TEST(GgufPreTokenization, EveryNameIsThereOnce) {
  std::vector<std::string> names;
  for (const PreTokenization& known : KnownPreTokenizations())
    names.insert(names.end(), known.names.begin(), known.names.end());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  for (const char* name : {"gpt-4o", "llama4", "viking", "seed-coder", "deepseek-llm", "deepseek-coder", "bloom"}) {
    EXPECT_THAT(names, testing::Contains(name));
  }
  for (const char* name : {"gemma4", "whitespace", "sarvam-moe", ""})
    EXPECT_THAT(names, testing::Not(testing::Contains(name)));
}

}  // namespace
}  // namespace taipan
