#include "text/special_tokens.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace taipan {
namespace {

std::string SplitOf(const SpecialTokens& tokens, std::string_view text) {
  std::string parts;
  tokens.Split(
      text, [&](std::string_view part) { parts += fmt::format("({})", part); },
      [&](int32_t id) { parts += fmt::format("[{}]", id); });
  return parts;
}

TEST(SpecialTokens, TheLongestOfTheLeftmost) {
  const SpecialTokens tokens({{"<s>", 1}, {"<s><s>!", 2}, {"s>", 3}, {"", 4}, {"<", 5}});
  EXPECT_EQ(SplitOf(tokens, "a<s>b"), "(a)[1](b)");
  EXPECT_EQ(SplitOf(tokens, "<s><s>!"), "[2]");
  EXPECT_EQ(SplitOf(tokens, "<s><s><"), "[1][1][5]");
  EXPECT_EQ(SplitOf(tokens, "s><x"), "[3][5](x)");
  EXPECT_EQ(SplitOf(tokens, ""), "");
  EXPECT_EQ(SplitOf(SpecialTokens(), "<s>"), "(<s>)");
}

}  // namespace
}  // namespace taipan
