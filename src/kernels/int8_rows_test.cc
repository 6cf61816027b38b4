#include "kernels/int8_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/test_util.h"

namespace taipan {
namespace {

struct Quantized {
  std::vector<int8_t> integers;
  std::vector<float> scales;
};

Quantized QuantizeRows(const std::vector<float>& x, int64_t rows, int64_t heads, DType dtype = DType::kF32) {
  const int64_t width = static_cast<int64_t>(x.size()) / rows;
  test::PaddedMatrix m(rows, width, 3, 1, dtype);
  m.Fill(x);
  Quantized q{std::vector<int8_t>(x.size() + 1, 99), std::vector<float>(static_cast<size_t>(rows * heads) + 1, 99)};
  QuantizeHeads(m.View(), heads, q.integers.data(), q.scales.data());
  EXPECT_EQ(q.integers.back(), 99);
  EXPECT_EQ(q.scales.back(), 99);
  return q;
}

// In double precision: the largest magnitude is 127 steps, and nothing is further than half a step away.
TEST(QuantizeHeads, NearestIntegersOfEachHeadsOwnScale) {
  test::ForEachSimdTarget([] {
    for (const int64_t head_dim : {1, 3, 8, 17, 64}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const int64_t rows = 5, heads = 3, width = heads * head_dim;
        std::vector<float> x = test::RandomVector<float>(rows * width, 7, 2.0);
        for (float& v : x) v = ToFloat(ToBF16(v));
        const Quantized q = QuantizeRows(x, rows, heads, dtype);
        for (int64_t part = 0; part < rows * heads; ++part) {
          double largest = 0;
          for (int64_t i = 0; i < head_dim; ++i) {
            largest = std::max(largest, std::abs(double{x[static_cast<size_t>(part * head_dim + i)]}));
          }
          const double scale = q.scales[static_cast<size_t>(part)];
          ASSERT_NEAR(scale, largest / 127, 1e-7 * largest);
          int most = 0;
          for (int64_t i = 0; i < head_dim; ++i) {
            const auto at = static_cast<size_t>(part * head_dim + i);
            ASSERT_LE(std::abs(q.integers[at] * scale - x[at]), 0.5001 * scale) << head_dim << " " << at;
            most = std::max(most, std::abs(int{q.integers[at]}));
          }
          ASSERT_EQ(most, 127);
        }
      }
    }
  });
}

TEST(QuantizeHeads, ZerosAndWhatIsNoNumber) {
  test::ForEachSimdTarget([] {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const Quantized q = QuantizeRows({0, 0, -0.0f, 1, -inf, 2, nan, 3, -1, 1, 2, -4}, 4, 1);
    EXPECT_EQ(q.scales[0], 0);
    EXPECT_EQ(q.integers[0], 0);
    EXPECT_TRUE(std::isnan(q.scales[1]) && std::isnan(q.scales[2]));
    EXPECT_EQ(q.integers[11], -127);
  });
}

}  // namespace
}  // namespace taipan
