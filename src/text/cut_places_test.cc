#include "text/cut_places.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

namespace taipan {
namespace {

size_t Cut(const std::string& text) {
  return LastCut(text, [](size_t) { return true; });
}

TEST(CutPlaces, AreSpacesBehindAnotherCharacter) {
  EXPECT_EQ(Cut("one two"), 3u);
  EXPECT_EQ(Cut("one two    "), 7u);
  EXPECT_EQ(Cut("one two \n  "), 7u);
  EXPECT_EQ(Cut("one two\n   "), 3u);
  EXPECT_EQ(Cut("one two\u00a0 three"), 3u);
  EXPECT_EQ(Cut("     "), 0u);
  EXPECT_EQ(Cut("  one"), 0u);
  EXPECT_EQ(Cut(""), 0u);
}

// A look at every blank before every blank would take seconds.
TEST(CutPlaces, AreFoundInOnePassOverBlanks) {
  std::string text = "one two" + std::string(1 << 15, ' ');
  const std::clock_t begin = std::clock();
  EXPECT_EQ(Cut(text), 7u);
  text.erase(0, 7);
  EXPECT_EQ(Cut(text), 0u);
  EXPECT_LT(std::clock() - begin, CLOCKS_PER_SEC / 2);
}

}  // namespace
}  // namespace taipan
