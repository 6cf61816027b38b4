#include "text/unicode/word_pattern.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "base/test_folder.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

const std::string kContractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
const std::string kRest = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Parts = std::vector<std::pair<size_t, size_t>>;

Parts PartsOf(const WordPattern& pattern, const std::string& text) {
  Parts parts;
  pattern.ForEach(text, [&](size_t begin, size_t end, bool match) {
    EXPECT_TRUE(match) << text;
    parts.emplace_back(begin, end);
  });
  return parts;
}

// Code points that PCRE2's Unicode knows, drawn so that all blocks and the characters that matter come up often.
std::string RandomText(const RandomKey& key, const Regex& unassigned) {
  static const std::vector<std::string> kOften = {" ",       "  ", "\t",     "\n",     "\r\n", "'s", "'LL",    "'re",
                                                  "'\u017f", "'",  "1",      "42",     "a",    "Bc", "\u00e9", "!",
                                                  "...",     "_",  "\u0301", "\u00a0", "\v",   "\f", "\b",     "\u3000",
                                                  "\u0085",  "d",  "\u4f60", "\u0663"};
  std::string text;
  const uint64_t count = 1 + RandomBelow(key, 0, 30);
  for (uint64_t i = 1; i <= count; ++i) {
    if (RandomBelow(key, 4 * i, 4) != 0) {
      text += kOften[RandomBelow(key, 4 * i + 1, kOften.size())];
      continue;
    }
    const uint64_t limit = RandomBelow(key, 4 * i + 2, 2) == 0 ? 0x3000 : 0x110000;
    const auto c = static_cast<uint32_t>(RandomBelow(key, 4 * i + 3, limit));
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string character = EncodeUtf8(c);
    size_t begin = 0, end = 0;
    if (!Regex::Search(unassigned, character).Next(&begin, &end)) text += character;
  }
  return text;
}

TEST(WordPattern, MatchersByHandEqualPcre2) {
  const Regex unassigned(R"(\p{Cn})", "test");
  for (const std::string& text :
       {std::string(kGpt2Pattern), kContractions + R"(\p{N}{1,3})" + kRest, kContractions + R"(\p{N})" + kRest}) {
    const WordPattern by_hand(text, "test");
    const WordPattern by_pcre2(Regex::FromOniguruma(text, "test"));
    ASSERT_TRUE(by_hand.by_hand()) << text;
    ASSERT_FALSE(by_pcre2.by_hand());
    for (uint32_t i = 0; i < 20'000; ++i) {
      const std::string sample = RandomText({.seed = 3, .stream = kTestStream, .step = i}, unassigned);
      ASSERT_EQ(PartsOf(by_hand, sample), PartsOf(by_pcre2, sample)) << nlohmann::json(sample).dump();
    }
  }
}

TEST(WordPattern, EveryCharacterHasTheClassOfPcre2) {
  const WordPattern by_hand(kGpt2Pattern, "test");
  const WordPattern by_pcre2(Regex::FromOniguruma(kGpt2Pattern, "test"));
  const Regex unassigned(R"(\p{Cn})", "test");
  std::string text;  // a letter, a number, a sign and a space beside each
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string character = EncodeUtf8(c);
    size_t begin = 0, end = 0;
    if (Regex::Search(unassigned, character).Next(&begin, &end)) continue;
    text += "a" + character + "1" + character + "!" + character + " " + character;
  }
  EXPECT_EQ(PartsOf(by_hand, text), PartsOf(by_pcre2, text));
}

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const Regex regex = Regex::FromOniguruma(pattern, "test");
  Regex::Search search(regex, text);
  std::vector<std::string> matches;
  for (size_t begin = 0, end = 0; search.Next(&begin, &end);) matches.push_back(text.substr(begin, end - begin));
  return matches;
}

// Assigned after Unicode 14, as `tokenizers` has them (tools/tokenizers/check_unicode.py compares all characters).
TEST(Regex, CharactersUpToUnicode16) {
  const std::string letters = "\u1c89\ua7da\U000105c0\U0002ebf0\U000323af\U00010d4e", digits = "\U00010d40\U0001e5f1";
  const std::string marks = "\u0897\u0cf3", signs = "\u2ffc\U0001fadf", point = "\u1b4e";
  const std::string all = letters + digits + marks + signs + point;
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Matches(R"(\p{L}+)", all), (Strings{letters}));
  EXPECT_EQ(Matches(R"(\P{L}+)", all), (Strings{digits + marks + signs + point}));
  EXPECT_EQ(Matches(R"([^\P{L}a]+)", "a" + all), (Strings{letters}));
  EXPECT_EQ(Matches(R"([\p{L}\P{N}]+)", all), (Strings{letters, marks + signs + point}));
  EXPECT_EQ(Matches(R"(\p{N}+)", all), (Strings{digits}));
  EXPECT_EQ(Matches(R"(\d+)", all), (Strings{digits}));
  EXPECT_EQ(Matches(R"(\p{M}+)", all), (Strings{marks}));
  EXPECT_EQ(Matches(R"(\p{S}+)", all), (Strings{signs}));
  EXPECT_EQ(Matches(R"(\p{P}+)", all), (Strings{point}));
  EXPECT_EQ(Matches(R"(\w+)", all), (Strings{letters + digits + marks}));
  EXPECT_EQ(Matches(R"([^\s\p{L}\p{N}]+)", all), (Strings{marks + signs + point}));
  EXPECT_EQ(Matches(R"(\p{Lu}+)", all), (Strings{"\u1c89\ua7da"}));
  EXPECT_EQ(Matches(R"(\p{Han}+)", all + "\u3001\u4f60"), (Strings{"\U0002ebf0\U000323af", "\u4f60"}));
  EXPECT_EQ(PartsOf(WordPattern(kGpt2Pattern, "test"), all),
            PartsOf(WordPattern(Regex::FromOniguruma(kGpt2Pattern, "test")), all));
  EXPECT_EQ(PartsOf(WordPattern(kGpt2Pattern, "test"), all).size(), 3u);
}

TEST(Regex, ReadsRubySyntax) {
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Matches(R"(\d{1,2}+)", "12345 6"), (Strings{"12345", "6"}));  // the + repeats, it is not possessive
  EXPECT_EQ(Matches(R"((?m:a.b)|c.d)", "a\nb c\nd"), (Strings{"a\nb"}));
  EXPECT_EQ(Matches(R"(\s+)", "a\u180eb \u0085c"), (Strings{" \u0085"}));
  EXPECT_EQ(Matches(R"([^(\s|[.,])]+)", "a.b (c|d) e"), (Strings{"a", "b", "c", "d", "e"}));
  EXPECT_EQ(Matches(R"(\u00e9{,2}x)", "\u00e9\u00e9\u00e9x"), (Strings{"\u00e9\u00e9x"}));
  EXPECT_EQ(Matches("x*", "axxb"), (Strings{"", "xx", ""}));
  EXPECT_EQ(Matches(R"(\h+)", "fg01 \t"), (Strings{"f", "01"}));
  EXPECT_EQ(Matches("a{b", "a{b"), (Strings{"a{b"}));
  EXPECT_EQ(Matches(R"([\W\d]+)", "a-1b"), (Strings{"-1"}));
  EXPECT_EQ(Matches(R"([^\W\d]+)", "a-1b"), (Strings{"a", "b"}));
  EXPECT_EQ(Matches(R"(\w+)", "\u00b2"), (Strings{"\u00b2"}));
  EXPECT_EQ(Matches(R"([\w]+)", "\u00b2"), (Strings{}));  // Oniguruma's own
}

TEST(Regex, FailsInOneLine) {
  const Regex regex = Regex::FromOniguruma("(a+)+b|(a+)+c", "t.json");
  const std::string text(100'000, 'a');
  size_t begin = 0, end = 0;
  EXPECT_EQ(UserErrorOf([&] { Regex::Search(regex, text).Next(&begin, &end); }).find("t.json: the regular expression"),
            0u);
  for (const char* pattern : {"(", "[a", "a**b\\", "(?<n", "\\p{Nothing}", "x{99999}"}) {
    EXPECT_NE(UserErrorOf([&] { Regex::FromOniguruma(pattern, "t.json"); }), "") << pattern;
  }
}

}  // namespace
}  // namespace taipan
