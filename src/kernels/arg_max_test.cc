#include "kernels/arg_max.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/test_util.h"

namespace taipan {
namespace {

TEST(FindLargest, IsTheFirstOfTheLargest) {
  for (const int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 257}) {
    std::vector<float> x(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i * 7919 % 13) - 20.0f;
    for (int64_t at = 0; at < n; ++at) {
      std::vector<float> y = x;
      if (at % 3 == 0) y[static_cast<size_t>(at)] = 5;
      if (at % 5 == 0) std::fill(y.begin(), y.end(), -std::numeric_limits<float>::infinity());
      test::ForEachSimdTarget([&] {
        const ArgMax found = FindLargest(y);
        EXPECT_FALSE(found.has_nan);
        EXPECT_EQ(found.index, std::max_element(y.begin(), y.end()) - y.begin()) << n << ", " << at;
      });
    }
  }
}

TEST(FindLargest, SeesWhatIsNoNumberAnywhere) {
  for (const size_t n : {1, 16, 40, 70}) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, 1.0f);
      x[at] = std::numeric_limits<float>::quiet_NaN();
      test::ForEachSimdTarget([&] { EXPECT_TRUE(FindLargest(x).has_nan) << n << ", " << at; });
    }
  }
}

}  // namespace
}  // namespace taipan
