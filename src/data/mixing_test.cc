#include "data/mixing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/test_folder.h"

namespace taipan {
namespace {

using testing::HasSubstr;

TEST(MixSchedule, SharesAreRightAndEveryRowComesOnce) {
  for (const std::vector<double>& weights :
       {std::vector<double>{1}, {3, 1}, {0.2, 0.7, 0.1}, {1e-4, 1}, std::vector<double>(32, 1.0), {1e-9, 5, 1e-9}}) {
    const MixSchedule mix(weights, 3);
    double sum = 0;
    for (const double w : weights) sum += w;
    std::vector<std::set<int64_t>> seen(weights.size());
    constexpr int64_t kRows = 20 * 1024;
    for (int64_t row = 0; row < kRows; ++row) {
      const MixPick pick = mix.At(row);
      EXPECT_TRUE(seen[static_cast<size_t>(pick.source)].insert(pick.index).second);
    }
    for (size_t k = 0; k < weights.size(); ++k) {
      const double expected = weights[k] / sum * kRows;
      EXPECT_NEAR(static_cast<double>(seen[k].size()), expected, static_cast<double>(weights.size())) << k;
      if (seen[k].empty()) continue;
      EXPECT_EQ(*seen[k].rbegin() + 1, static_cast<int64_t>(seen[k].size()));  // none left out
    }
  }
}

TEST(MixSchedule, OrdersAreMixedAndDependOnTheSeed) {
  const MixSchedule one({1, 1}, 1), same({2, 2}, 1), other({1, 1}, 2);
  int64_t changes = 0, different = 0;
  for (int64_t row = 1; row < 1024; ++row) {
    EXPECT_EQ(one.At(row).source, same.At(row).source);
    changes += one.At(row).source != one.At(row - 1).source;
    different += one.At(row).source != other.At(row).source;
  }
  EXPECT_NEAR(static_cast<double>(changes), 512, 80);  // five standard deviations of a fair coin
  EXPECT_NEAR(static_cast<double>(different), 512, 80);
}

TEST(MixSchedule, WeightsStandBehindThePath) {
  const TestFolder folder;
  for (const char* name : {"a", "b", "c=2"}) WriteFileAtomically(folder / name, "x");
  const auto read = [](const std::vector<std::string>& data) { return ReadWeights(data, PathExists); };
  const std::vector<WeightedPath> paths = read({folder / "a=0.25", folder / "b=3"});
  EXPECT_EQ(paths[0].path, folder / "a");
  EXPECT_EQ(paths[0].weight, 0.25);
  EXPECT_EQ(paths[1].weight, 3);
  EXPECT_EQ(read({folder / "c=2"})[0].path, folder / "c=2");  // such a file is there
  EXPECT_EQ(read({folder / "c=2=5"})[0].weight, 5);
  EXPECT_EQ(read({folder / "a", "-"})[1].weight, 0);
  EXPECT_THAT(UserErrorOf([&] {
                read({folder / "a=1", folder / "b"});
              }),
              HasSubstr("--data: some paths have a weight and some have none"));
  for (const char* bad : {"a=0", "a=-1", "a=", "a=x", "a=nan"}) {
    EXPECT_THAT(UserErrorOf([&] { read({folder / bad}); }), HasSubstr("--data: no weight behind =")) << bad;
  }
  EXPECT_THAT(UserErrorOf([&] { read(std::vector<std::string>(33, folder / "a=1")); }), HasSubstr("at most 32"));
}

}  // namespace
}  // namespace taipan
