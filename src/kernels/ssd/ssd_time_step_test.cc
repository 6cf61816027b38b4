#include <cmath>

#include "kernels/ssd/ssd.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

constexpr float kLo = 1e-9f, kHi = 2.5f;

// Everything is computed in double and rounded once; a derivative at a value next to a bound may fall on either side.
void ExpectAgrees(int64_t rows, int64_t heads, DType dtype) {
  PaddedMatrix raw(rows, heads, 2, 1, dtype), ddt(rows, heads, 1, 3);
  raw.FillRandom(1, 8.0), ddt.FillRandom(2);
  const auto bias = test::RandomVector<float>(heads, 3);
  const auto v = raw.DenseDouble(), upstream = ddt.DenseDouble();
  test::ForEachSimdTarget([&] {
    SCOPED_TRACE(testing::Message() << rows << " x " << heads << " " << NameOf(dtype));
    PaddedMatrix dt(rows, heads, 0, 5), draw(rows, heads, 3, 2, dtype);
    std::vector<float> dbias(bias.size(), 1.0f);
    std::vector<double> expected_dbias(bias.size(), 1.0);
    const TimeStepInputs in = {raw.View(), bias.data(), kLo, kHi};
    SsdTimeStep(in, dt.View());
    SsdTimeStepBackward(in, {.ddt = ddt.View(), .draw = draw.View(), .ddt_bias = dbias.data()});
    const std::vector<float> got = dt.Dense(), got_draw = draw.Dense();
    for (size_t i = 0; i < v.size(); ++i) {
      const size_t h = i % bias.size();
      const double x = v[i] + static_cast<double>(bias[h]);
      const double softplus = x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
      const double expected = std::clamp<double>(softplus, kLo, kHi);
      ASSERT_LE(std::abs(got[i] - expected), test::kFloatEps * expected) << x;
      const double slope = softplus < kLo || softplus > kHi ? 0 : 1 / (1 + std::exp(-x));
      ASSERT_LE(std::abs(got_draw[i] - slope * upstream[i]),
                (test::kFloatEps + test::StorageRoundoff(dtype)) * slope * std::abs(upstream[i]))
          << x;
      expected_dbias[h] += slope * upstream[i];
    }
    for (size_t h = 0; h < bias.size(); ++h) {
      ASSERT_NEAR(dbias[h], expected_dbias[h], test::kFloatEps * (2 + test::MaxAbs(upstream) * rows));
    }
    ASSERT_TRUE(dt.GuardsIntact() && draw.GuardsIntact());
  });
}

TEST(SsdTimeStep, AgreesWithReferenceOnEveryTarget) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t heads = 1; heads <= 18; ++heads) ExpectAgrees(3, heads, dtype);
    for (const int64_t rows : {0, 1, 64, 65, 200}) ExpectAgrees(rows, 24, dtype);
  }
}

TEST(SsdTimeStep, ExtremeValuesAndNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const int64_t heads : {5, 21}) {  // the end of a row, and whole vectors
    std::vector<float> raw(static_cast<size_t>(heads), 0.0f), bias(raw), dt(raw), ddt(raw.size(), 1.0f), draw(raw);
    const std::vector<float> x = {100.0f, -80.0f, 1e30f, -inf, nan};
    std::copy(x.begin(), x.end(), raw.begin());
    test::ForEachSimdTarget([&] {
      const ConstMatrixView in(raw.data(), 1, heads), upstream(ddt.data(), 1, heads);
      std::vector<float> dbias(raw.size());
      SsdTimeStep({in, bias.data(), 0, inf}, {dt.data(), 1, heads});
      EXPECT_EQ(dt[0], 100.0f);
      EXPECT_NEAR(dt[1] / std::exp(-80.0), 1, 1e-6);
      EXPECT_EQ(dt[2], 1e30f);
      EXPECT_EQ(dt[3], 0.0f);
      EXPECT_TRUE(std::isnan(dt[4]));
      SsdTimeStepBackward({in, bias.data(), 0, 50},
                          {.ddt = upstream, .draw = {draw.data(), 1, heads}, .ddt_bias = dbias.data()});
      EXPECT_EQ(draw[0], 0.0f);  // clamped
      EXPECT_NEAR(draw[1] / std::exp(-80.0), 1, 1e-6);
      EXPECT_EQ(draw[2], 0.0f);
      EXPECT_EQ(draw[3], 0.0f);
    });
  }
}

TEST(SsdTimeStep, ThreadsDoNotChangeTheBits) {
  PaddedMatrix raw(200, 24), ddt(200, 24);
  raw.FillRandom(1, 3.0), ddt.FillRandom(2);
  const auto bias = test::RandomVector<float>(24, 3);
  test::ExpectSameBitsForAnyThreads([&] {
    PaddedMatrix dt(200, 24), draw(200, 24);
    std::vector<float> dbias(24);
    const TimeStepInputs in = {raw.View(), bias.data(), kLo, kHi};
    SsdTimeStep(in, dt.View());
    SsdTimeStepBackward(in, {.ddt = ddt.View(), .draw = draw.View(), .ddt_bias = dbias.data()});
    std::vector<float> all = dt.Dense();
    for (const auto& part : {draw.Dense(), dbias}) all.insert(all.end(), part.begin(), part.end());
    return all;
  });
}

}  // namespace
}  // namespace taipan
