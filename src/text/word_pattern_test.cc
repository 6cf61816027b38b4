#include "text/word_pattern.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "base/test_folder.h"
#include "text/utf8.h"

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
