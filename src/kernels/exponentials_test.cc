#include "kernels/exponentials.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/test_util.h"

namespace taipan {
namespace {

TEST(Exponentials, AgreeWithTheLibrarysToTheLastBits) {
  std::vector<float> x = test::RandomVector<float>(203, 1);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= static_cast<float>(i);
  x[17] = x[202] = -std::numeric_limits<float>::infinity();
  x[5] = -1e30f;
  const float largest = *std::max_element(x.begin(), x.end());
  for (const double temperature : {0.05, 0.8, 1.0, 1000.0}) {
    test::ForEachSimdTarget([&] {
      std::vector<double> found(x.size(), -1.0);
      Exponentials(x, largest, temperature, found.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = std::exp((double{x[i]} - largest) / temperature);
        // Below 1e-300 the vectors' may be 0.
        EXPECT_NEAR(found[i], expected, 1e-15 * expected + 1e-300) << i << ", " << temperature;
      }
    });
  }
}

}  // namespace
}  // namespace taipan
