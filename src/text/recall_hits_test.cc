#include "text/recall_hits.h"

#include <gtest/gtest.h>

namespace taipan {
namespace {

using Hits = std::vector<bool>;

TEST(RecallHits, CompleteABigramFromFurtherBack) {
  const std::vector<int32_t> tokens = {1, 2, 7, 8, 9, 1, 2};
  EXPECT_EQ(RecallHits(tokens, 4), (Hits{false, false, false, false, false, true}));  // five back
  EXPECT_EQ(RecallHits(tokens, 5), Hits(6, false));
}

TEST(RecallHits, TheLastTimeCounts) {
  // "1 2" at 1, at 6, and again at 8, where a convolution still sees the second.
  const std::vector<int32_t> tokens = {1, 2, 7, 8, 9, 1, 2, 1, 2};
  EXPECT_EQ(RecallHits(tokens, 3), (Hits{false, false, false, false, false, true, false, false}));
}

TEST(RecallHits, OfNothing) {
  EXPECT_TRUE(RecallHits({}, 4).empty());
  const std::vector<int32_t> one = {5};
  EXPECT_TRUE(RecallHits(one, 4).empty());
}

TEST(RecallLoss, SplitsTheSum) {
  RecallLoss loss;
  EXPECT_EQ(loss.hit_ce(), 0);
  EXPECT_EQ(loss.hit_share(), 0);
  for (const double p : {-1, -1, -4}) loss.Add(false, p);
  loss.Add(true, -5);
  EXPECT_EQ(loss.hit_ce(), 5);
  EXPECT_EQ(loss.other_ce(), 2);
  EXPECT_EQ(loss.hit_share(), 0.25);
}

}  // namespace
}  // namespace taipan
