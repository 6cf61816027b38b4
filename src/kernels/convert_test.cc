#include "kernels/convert.h"

#include <bit>

#include "kernels/gemm/tile_bf16.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

// The two bf16 neighbours of x, by truncation; the nearer one wins, the even one of two equally near.
float NearestBF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x) & 0xffff0000u;
  const float low = std::bit_cast<float>(bits), high = std::bit_cast<float>(bits + 0x10000u);  // by magnitude
  const double below = std::abs(static_cast<double>(x) - static_cast<double>(low));
  const double above = std::abs(static_cast<double>(high) - static_cast<double>(x));
  if (below == above) return (bits & 0x10000u) == 0 ? low : high;
  return below < above ? low : high;
}

// Every SIMD target, with bf16 instructions and without.
template <class F>
void ForEachRounding(F&& f) {
  test::ForEachSimdTarget([&] {
    for (const bool allowed : {true, false}) {
      AllowBF16Instructions(allowed);
      SCOPED_TRACE(UsesBF16Instructions() ? "bf16 instructions" : "arithmetic on bits");
      f();
    }
    AllowBF16Instructions(true);
  });
}

TEST(Convert, RoundsToTheNearestAndTiesToEven) {
  std::vector<float> x = {0.0f, -0.0f, 1.0f, -1.0f, 0x1p-126f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 3.3e38f};
  x.push_back(std::nextafter(1.0f + 0x1p-8f, 2.0f));
  for (const float v : test::RandomVector<float>(1000, 1, 100.0)) x.push_back(v);
  const int64_t n = static_cast<int64_t>(x.size());
  ForEachRounding([&] {
    PaddedMatrix half(1, n, 0, 1, DType::kBF16);
    Convert({x.data(), 1, n}, half.View());
    const std::vector<float> got = half.Dense();
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(got[i], NearestBF16(x[i])) << x[i];
    EXPECT_EQ(std::signbit(got[1]), true);
  });
}

// Numbers below 2^-126 round as the others do, or become zero.
TEST(Convert, SubnormalNumbers) {
  const std::vector<float> x(40, 1e-40f), y(40, -3e-39f);
  ForEachRounding([&] {
    PaddedMatrix half(1, 40, 0, 0, DType::kBF16);
    for (const auto& values : {x, y}) {
      Convert({values.data(), 1, 40}, half.View());
      for (const float got : half.Dense()) EXPECT_TRUE(got == 0 || got == NearestBF16(values[0])) << got;
    }
  });
}

TEST(Convert, OverflowInfinityAndNan) {
  const float inf = std::numeric_limits<float>::infinity();
  // The largest float is nearer to 2^128 than to the largest bf16 number. A NaN whose upper half would be infinity.
  const std::vector<float> x = {inf, -inf, std::numeric_limits<float>::max(), std::bit_cast<float>(0x7f800001u),
                                std::bit_cast<float>(0xffffffffu)};
  ForEachRounding([&] {
    for (int64_t n = 5; n <= 40; ++n) {  // in whole vectors and in the rest of a row
      std::vector<float> row(static_cast<size_t>(n), 1.0f);
      std::copy(x.begin(), x.end(), row.end() - 5);
      PaddedMatrix half(1, n, 0, 0, DType::kBF16), back(1, n);
      Convert({row.data(), 1, n}, half.View());
      Convert(half.View(), back.View());
      const float* got = back.View().F32() + n - 5;
      EXPECT_TRUE(got[0] == inf && got[1] == -inf && got[2] == inf && std::isnan(got[3]) && std::isnan(got[4])) << n;
    }
  });
}

TEST(Convert, EveryShapeAndBothWays) {
  auto shapes = test::KernelShapes();
  shapes.push_back({3, 0});
  shapes.push_back({3, 70000});  // several tasks a row
  shapes.push_back({700, 300});  // and several rows a task
  for (const auto [rows, cols] : shapes) {
    PaddedMatrix from(rows, cols, 3, 1);
    from.FillRandom(1);
    const std::vector<float> rounded = test::Stored(from.Dense(), DType::kBF16);
    ForEachRounding([&, rows = rows, cols = cols] {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols);
      for (const int64_t gap : {0, 5}) {
        PaddedMatrix half(rows, cols, gap, 2, DType::kBF16), copy(rows, cols, gap, 0, DType::kBF16);
        PaddedMatrix back(rows, cols, gap), same(rows, cols, gap, 3);
        Convert(from.View(), half.View());
        ASSERT_TRUE(test::SameBits(half.Dense(), rounded));
        Convert(half.View(), back.View());
        ASSERT_TRUE(test::SameBits(back.Dense(), rounded));
        Convert(half.View(), copy.View());
        ASSERT_TRUE(test::SameBits(copy.Dense(), rounded));
        Convert(from.View(), same.View());
        ASSERT_TRUE(test::SameBits(same.Dense(), from.Dense()));
        ASSERT_TRUE(half.GuardsIntact() && copy.GuardsIntact() && back.GuardsIntact() && same.GuardsIntact());
      }
    });
  }
}

TEST(Convert, RefusesOtherShapes) {
  PaddedMatrix a(2, 4), b(2, 5), c(3, 4);
  EXPECT_THROW(Convert(a.View(), b.View()), InternalError);
  EXPECT_THROW(Convert(a.View(), c.View()), InternalError);
}

}  // namespace
}  // namespace taipan
