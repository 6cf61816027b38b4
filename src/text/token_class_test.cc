#include "text/token_class.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace taipan {
namespace {

using enum TokenClass;

std::vector<TokenClass> ClassesOf(const std::vector<std::string_view>& tokens) { return TokenClasses(tokens); }

TEST(TokenClass, GoesByTheFirstCharacterAndTheOneBefore) {
  EXPECT_THAT(ClassesOf({"The", " cat", "s", "'", "s", " 1", "9a", "b", " \n", " (", "x", "9x"}),
              testing::ElementsAre(kWordStart, kWordStart, kWordRest, kPunctuation, kWordStart, kDigit, kDigit,
                                   kWordRest, kSpace, kPunctuation, kWordStart, kDigit));
}

TEST(TokenClass, SeesCharactersThatTokensCut) {
  // An e with an acute accent in two tokens, a letter behind it; a quotation mark in three, then a word.
  EXPECT_THAT(ClassesOf({"t", "\xC3", "\xA9", "t", " \xE2", "\x80", "\x9C", "T"}),
              testing::ElementsAre(kWordStart, kWordRest, kOther, kWordRest, kPunctuation, kOther, kOther, kWordStart));
  EXPECT_THAT(ClassesOf({"a", "\xFF", "b", "", "\x01"}),
              testing::ElementsAre(kWordStart, kOther, kWordStart, kOther, kOther));
}

TEST(TokenClass, EverythingShows) {
  EXPECT_EQ(VisibleText(" the\n\t<b>"), " the\u21B5\u2192<b>");
  EXPECT_EQ(VisibleText("\xE2\x80"), "\\xE2\\x80");
  EXPECT_EQ(VisibleText("\xC3\xA9\x07\xE2\x80\xAE"), "\u00E9\\u{7}\\u{202E}");
}

}  // namespace
}  // namespace taipan
