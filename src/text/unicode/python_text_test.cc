#include "text/unicode/python_text.h"

#include <gtest/gtest.h>

namespace taipan {
namespace {

// Expected values are those of CPython 3.11.
TEST(PythonText, StripsWhatPythonCallsSpace) {
  EXPECT_EQ(PythonStrip(" \t\n\x1c a b \u00a0\u3000"), "a b");
  EXPECT_EQ(PythonStrip("\u200b x"), "\u200b x");  // a zero-width space is none
  EXPECT_EQ(PythonStrip(" \u2003 "), "");
  EXPECT_EQ(PythonSpaceAfter("word \u2028"), 4u);
  EXPECT_EQ(PythonSpaceBefore("\u1680 word"), 4u);
  EXPECT_EQ(PythonSpaceBefore(""), 0u);
}

TEST(PythonText, CountsCharacters) {
  EXPECT_EQ(CountCharacters(""), 0);
  EXPECT_EQ(CountCharacters("na\u00efve \u4e2d\U0001F600"), 8);
}

TEST(PythonText, CapitalizesTheFirstAndLowersTheRest) {
  EXPECT_EQ(PythonCapitalize("then He Ate ICE"), "Then he ate ice");
  EXPECT_EQ(PythonCapitalize("\u00e9T\u00c9"), "\u00c9t\u00e9");
  EXPECT_EQ(PythonCapitalize(", the Man"), ", the man");
  EXPECT_EQ(PythonCapitalize("\u01c6a"), "\u01c5a");  // title case, not upper case
  EXPECT_EQ(PythonCapitalize(""), "");
  EXPECT_EQ(LowerCase("\u0391BC"), "\u03b1bc");
}

TEST(PythonText, ReplacesFromTheLeft) {
  EXPECT_EQ(ReplaceAll("a    b", "  ", " "), "a  b");
  EXPECT_EQ(ReplaceAll("a   b", "  ", " "), "a  b");
  EXPECT_EQ(ReplaceAll("x [title] y [title]", " [title]", ". "), "x.  y. ");
  EXPECT_EQ(ReplaceAll("abc", "d", "e"), "abc");
}

}  // namespace
}  // namespace taipan
