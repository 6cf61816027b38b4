#include "text/normalizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>
#include <vector>

#include "base/rng.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr UnicodeForm kForms[] = {UnicodeForm::kNfc, UnicodeForm::kNfd, UnicodeForm::kNfkc, UnicodeForm::kNfkd};

std::string Normalize(const std::string& text, UnicodeForm form) {
  std::string buffer;
  return std::string(NormalizeUnicode(text, form, buffer));
}

std::string ByUtf8proc(const std::string& text, UnicodeForm form) {
  const int options =
      UTF8PROC_STABLE |
      (form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd ? UTF8PROC_COMPAT : 0);
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(options));
  const std::string result(reinterpret_cast<const char*>(out), static_cast<size_t>(size));
  std::free(out);
  return result;
}

// Chunks between stable characters change nothing: texts of marks, composed characters, Hangul, ligatures, all of them
// in Unicode 9.
TEST(NormalizeUnicode, EqualsUtf8procOnRandomTexts) {
  const std::vector<std::string> parts = {"a",      "e",      " ",          "\u00e9",     "\u00c5", "\u212b", "\u0301",
                                          "\u0323", "\u0307", "\u030a",     "\u1e9b",     "\u1100", "\u1161", "\u11a8",
                                          "\uac00", "\uac01", "\ufb01",     "\u2126",     "\u4f60", "\u0915", "\u093c",
                                          "\u0958", "\u0344", "\u3099",     "\u304b",     "\ufdfa", "\u0f73", "\u0f71",
                                          "\u1ebf", "\uff21", "\U0001d15e", "\U0001f40d", "\u0334", "\u2460"};
  for (uint32_t i = 0; i < 5000; ++i) {
    const RandomKey key{.seed = 5, .stream = kTestStream, .step = i};
    std::string text;
    for (uint64_t j = 0; j < 1 + RandomBelow(key, 0, 12); ++j) text += parts[RandomBelow(key, 1 + j, parts.size())];
    for (const UnicodeForm form : kForms) ASSERT_EQ(Normalize(text, form), ByUtf8proc(text, form)) << text;
  }
}

TEST(NormalizeUnicode, LeavesNewerCharactersAlone) {
  const std::string reiwa = "\u32ff", composed = "\U00011938", apart = "\U00011935\U00011930";
  for (const UnicodeForm form : kForms) {
    EXPECT_EQ(Normalize(reiwa, form), reiwa);
    EXPECT_EQ(Normalize(composed, form), composed);
    EXPECT_EQ(Normalize(apart, form), apart);
    EXPECT_EQ(Normalize("a\u1ac1\u0334", form), "a\u1ac1\u0334");  // a mark of Unicode 14: no reordering across it
  }
}

TEST(NormalizeUnicode, ManyMarksTakeNoQuadraticTime) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string sorted = Normalize(text, UnicodeForm::kNfd);
  EXPECT_EQ(sorted.size(), text.size());
  EXPECT_EQ(sorted.substr(0, 5), "a\u0323\u0323");
}

TEST(NormalizeUnicode, AsciiIsNotCopied) {
  std::string buffer;
  const std::string text = "plain text, \u00e9 too";
  EXPECT_EQ(NormalizeUnicode(text, UnicodeForm::kNfc, buffer).data(), text.data());
}

}  // namespace
}  // namespace taipan
