#include "kernels/token_gate.h"

#include "kernels/test_util.h"
#include "kernels/token_gate_reference.h"

namespace taipan {
namespace {

using reference::GateProblem;
using test::PaddedMatrix;

constexpr double kUnit = test::kFloatEps / 2;  // unit roundoff of f32
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Scores of standard deviation about 1 whatever d is.
GateProblem<double> RandomProblem(int64_t rows, int64_t d, bool noise, DType dtype = DType::kF32) {
  GateProblem<double> p{rows,
                        d,
                        test::Stored(test::RandomVector<double>(rows * d, 1), dtype),
                        test::RandomVector<double>(2 * d, 2, 1 / std::sqrt(static_cast<double>(d))),
                        test::RandomVector<double>(2, 3),
                        {},
                        0.75,
                        0.125};
  if (noise) p.noise = test::RandomVector<double>(2 * rows, 4);
  return p;
}

struct Gate {
  std::vector<float> margin, alpha, m_soft;
  std::vector<uint8_t> selected;

  explicit Gate(int64_t rows)
      : margin(static_cast<size_t>(rows)), alpha(margin.size()), m_soft(margin.size()), selected(margin.size()) {}
  GateValues Values(bool training = true) {
    return {margin.data(), alpha.data(), training ? m_soft.data() : nullptr, selected.data()};
  }
  std::vector<float> Everything() const {
    std::vector<float> all(selected.begin(), selected.end());
    for (const auto* part : {&margin, &alpha, &m_soft}) all.insert(all.end(), part->begin(), part->end());
    return all;
  }
};

Gate RunGate(const GateProblem<double>& p, DType dtype = DType::kF32) {
  Gate out(p.rows);
  PaddedMatrix u(p.rows, p.d, 3, 1, dtype);
  u.Fill(test::ConvertTo<float>(p.u));
  const PaddedMatrix weight = PaddedMatrix(2, p.d, 0, 1).Fill(test::ConvertTo<float>(p.weight));
  const auto bias = test::ConvertTo<float>(p.bias), noise = test::ConvertTo<float>(p.noise);
  TokenGate({.u = u.View(),
             .weight = weight.View().F32(),
             .bias = bias.data(),
             .noise = noise.empty() ? nullptr : noise.data(),
             .tau = static_cast<float>(p.tau),
             .delta = static_cast<float>(p.delta)},
            out.Values());
  return out;
}

// A gate of one value a row: s0 = w0 * u, s1 = w1 * u.
Gate GateOfScores(const std::vector<float>& u, float w0, float w1, const std::vector<float>& noise, float delta,
                  float tau = 1) {
  Gate out(static_cast<int64_t>(u.size()));
  const float weight[] = {w0, w1}, bias[] = {0, 0};
  TokenGate({.u = {u.data(), static_cast<int64_t>(u.size()), 1},
             .weight = weight,
             .bias = bias,
             .noise = noise.empty() ? nullptr : noise.data(),
             .tau = tau,
             .delta = delta},
            out.Values());
  return out;
}

// L = sum_t a_t m_t^2 + b_t sin(alpha_t) with m_hard and stopgrad(m_soft) frozen at the base point is smooth, and its
// gradient is what the straight-through estimator stands for.
TEST(TokenGateReference, GradientsMatchCentralDifferencesOfTheFrozenSurrogate) {
  const GateProblem<double> p = RandomProblem(6, 4, true);
  const auto base = reference::TokenGate(p);
  const auto a = test::RandomVector<double>(p.rows, 5), b = test::RandomVector<double>(p.rows, 6);
  std::vector<double> dm, dalpha;
  for (size_t t = 0; t < a.size(); ++t) {
    dm.push_back(2 * a[t] * base.selected[t]);
    dalpha.push_back(b[t] * std::cos(base.alpha[t]));
  }
  EXPECT_GT(test::MaxAbs(dm), 0);
  const auto loss = [&](const GateProblem<double>& q) {
    const auto out = reference::TokenGate(q);
    double sum = 0;
    for (size_t t = 0; t < a.size(); ++t) {
      const double m = base.selected[t] + out.m_soft[t] - base.m_soft[t];
      sum += a[t] * m * m + b[t] * std::sin(out.alpha[t]);
    }
    return sum;
  };
  const auto gradients = TokenGateBackward(p, base, dm, dalpha);
  const auto with = [&](std::vector<double> GateProblem<double>::*field) {
    return [&, field](const std::vector<double>& x) {
      GateProblem<double> q = p;
      q.*field = x;
      return loss(q);
    };
  };
  test::CheckGradient(with(&GateProblem<double>::u), p.u, gradients.du, "u");
  test::CheckGradient(with(&GateProblem<double>::weight), p.weight, gradients.dweight, "weight");
  test::CheckGradient(with(&GateProblem<double>::bias), p.bias, gradients.dbias, "bias");
}

void ExpectForwardMatches(const GateProblem<double>& p, DType dtype = DType::kF32) {
  const auto expected = reference::TokenGate(p);
  test::ForEachSimdTarget([&] {
    const Gate got = RunGate(p, dtype);
    for (int64_t t = 0; t < p.rows; ++t) {
      const size_t at = static_cast<size_t>(t);
      double size = test::MaxAbs(p.bias) + test::MaxAbs(p.noise);
      for (int64_t c = 0; c < p.d; ++c) {
        const double w =
            std::max(std::abs(p.weight[static_cast<size_t>(c)]), std::abs(p.weight[static_cast<size_t>(p.d + c)]));
        size += w * std::abs(p.u[static_cast<size_t>(t * p.d + c)]);
      }
      // Two sums of d products and a few additions; sigmoid has slope 1/4 at most and its result is rounded.
      const double bound = 2 * static_cast<double>(p.d + 4) * kUnit * size;
      ASSERT_NEAR(got.margin[at], expected.margin[at], bound);
      ASSERT_NEAR(got.alpha[at], expected.alpha[at], bound / 4 + kUnit);
      ASSERT_NEAR(got.m_soft[at], expected.m_soft[at], bound / (4 * p.tau) + kUnit);
      if (std::abs(expected.noisy_margin[at] - p.delta) > bound) {
        ASSERT_EQ(got.selected[at], expected.selected[at]);
      }
    }
  });
}

TEST(TokenGate, MatchesTheReference) {
  for (const int64_t d : {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100, 769}) {
    for (const int64_t rows : {0, 1, 3, 64, 65, 130}) {
      SCOPED_TRACE(testing::Message() << "d " << d << ", rows " << rows);
      ExpectForwardMatches(RandomProblem(rows, d, rows % 2 == 1));
      ExpectForwardMatches(RandomProblem(rows, d, rows % 2 == 1, DType::kBF16), DType::kBF16);
    }
  }
}

TEST(TokenGate, SelectsAboveTheThresholdOnly) {
  test::ForEachSimdTarget([] {
    EXPECT_EQ(GateOfScores({1, -1, 0}, 0.25f, 0.75f, {}, 0).selected, (std::vector<uint8_t>{1, 0, 0}));
    EXPECT_EQ(GateOfScores({1, 2}, 0.5f, 0.5f, {}, 0).selected, (std::vector<uint8_t>{0, 0}));  // ties
    // Against a threshold of 0.5: a margin of exactly 0.5, the next float, and more.
    const float above = std::nextafter(0.5f, 1.0f);
    EXPECT_EQ(GateOfScores({0.5f, above, 3}, 0, 1, {}, 0.5f).selected, (std::vector<uint8_t>{0, 1, 1}));
    EXPECT_EQ(GateOfScores({-0.5f, -0.25f}, 0, 1, {}, -0.5f).selected, (std::vector<uint8_t>{0, 1}));
  });
}

TEST(TokenGate, NoiseDecidesSelectionButNotAlphaOrMargin) {
  const Gate quiet = GateOfScores({1, 1}, 0.25f, 0.5f, {}, 0);
  const Gate noisy = GateOfScores({1, 1}, 0.25f, 0.5f, {2, 0, 0, 2}, 0);
  EXPECT_EQ(quiet.selected, (std::vector<uint8_t>{1, 1}));
  EXPECT_EQ(noisy.selected, (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(noisy.margin, quiet.margin);
  EXPECT_EQ(noisy.alpha, quiet.alpha);
  EXPECT_NEAR(noisy.m_soft[0], 1 / (1 + std::exp(1.75)), kUnit);
  EXPECT_NEAR(noisy.m_soft[1], 1 / (1 + std::exp(-2.25)), kUnit);
  EXPECT_NEAR(GateOfScores({1}, 0.25f, 0.5f, {}, 0, 0.5f).m_soft[0], 1 / (1 + std::exp(-0.5)), kUnit);
  // The comparison is made in f32: noise below the last bit of the scores leaves a tie a tie.
  EXPECT_EQ(GateOfScores({1}, 1, 1, {0, 1e-9f}, 0).selected[0], 0);
}

TEST(TokenGate, ExtremeScoresAndNan) {
  test::ForEachSimdTarget([] {
    const Gate got = GateOfScores({1e30f, -1e30f, kNan}, -1, 1, {}, 0, 0.1f);
    EXPECT_EQ(got.selected, (std::vector<uint8_t>{1, 0, 0}));
    EXPECT_EQ(got.alpha[0], 1);
    EXPECT_EQ(got.alpha[1], 0);
    EXPECT_EQ(got.m_soft[0], 1);
    EXPECT_EQ(got.m_soft[1], 0);
    EXPECT_TRUE(std::isnan(got.margin[2]) && std::isnan(got.alpha[2]) && std::isnan(got.m_soft[2]));
  });
}

TEST(TokenGate, InferenceNeedsNoSurrogateAndZeroNoiseIsNoNoise) {
  GateProblem<double> p = RandomProblem(70, 33, false);
  const Gate plain = RunGate(p);
  p.noise.assign(140, 0.0);
  EXPECT_TRUE(test::SameBits(RunGate(p).Everything(), plain.Everything()));
  Gate inference(p.rows);
  const auto u = test::ConvertTo<float>(p.u), weight = test::ConvertTo<float>(p.weight);
  const auto bias = test::ConvertTo<float>(p.bias);
  TokenGate({.u = {u.data(), p.rows, p.d},
             .weight = weight.data(),
             .bias = bias.data(),
             .delta = static_cast<float>(p.delta)},
            inference.Values(false));
  EXPECT_EQ(inference.selected, plain.selected);
  EXPECT_TRUE(test::SameBits(inference.margin, plain.margin));
}

TEST(TokenGate, ARowDoesNotDependOnTheOthers) {
  const GateProblem<double> p = RandomProblem(130, 50, false);
  const Gate all = RunGate(p);
  for (const int64_t row : {0, 63, 64, 129}) {
    GateProblem<double> one = p;
    one.rows = 1;
    one.u.assign(p.u.begin() + row * p.d, p.u.begin() + (row + 1) * p.d);
    const Gate alone = RunGate(one);
    EXPECT_EQ(alone.margin[0], all.margin[static_cast<size_t>(row)]);
    EXPECT_EQ(alone.alpha[0], all.alpha[static_cast<size_t>(row)]);
  }
}

struct KernelGradients {
  std::vector<float> du, dweight, dbias;
  bool guards_intact = true;
};

// Gradients start from the given values and are added to.
KernelGradients RunBackward(const GateProblem<double>& p, const std::vector<float>& dm,
                            const std::vector<float>& dalpha, const std::vector<float>& du_start,
                            const std::vector<float>& dweight_start, DType dtype = DType::kF32) {
  Gate saved = RunGate(p, dtype);
  PaddedMatrix u(p.rows, p.d, 3, 1, dtype), du(p.rows, p.d, 5, 2);
  PaddedMatrix weight(2, p.d, 0, 1), dweight(2, p.d, 0, 1);
  u.Fill(test::ConvertTo<float>(p.u));
  weight.Fill(test::ConvertTo<float>(p.weight));
  du.Fill(du_start);
  dweight.Fill(dweight_start);
  std::vector<float> dbias = {3, -4};
  TokenGateBackward({.u = u.View(), .weight = weight.View().F32(), .tau = static_cast<float>(p.tau)}, saved.Values(),
                    {.dm = dm.data(),
                     .dalpha = dalpha.data(),
                     .du = du.View(),
                     .dweight = dweight.View().F32(),
                     .dbias = dbias.data()});
  return {du.Dense(), dweight.Dense(), dbias, du.GuardsIntact() && dweight.GuardsIntact()};
}

void ExpectBackwardMatches(const GateProblem<double>& p, DType dtype = DType::kF32) {
  const auto dm = test::RandomVector<float>(p.rows, 7), dalpha = test::RandomVector<float>(p.rows, 8);
  const auto du_start = test::RandomVector<float>(p.rows * p.d, 9);
  const auto dw_start = test::RandomVector<float>(2 * p.d, 10);
  auto expected =
      TokenGateBackward(p, reference::TokenGate(p), test::ConvertTo<double>(dm), test::ConvertTo<double>(dalpha));
  for (size_t i = 0; i < du_start.size(); ++i) expected.du[i] += static_cast<double>(du_start[i]);
  for (size_t i = 0; i < dw_start.size(); ++i) expected.dweight[i] += static_cast<double>(dw_start[i]);
  expected.dbias[0] += 3;
  expected.dbias[1] -= 4;
  const double rows = static_cast<double>(p.rows), d = static_cast<double>(p.d);
  const double largest_u = test::MaxAbs(p.u), largest_w = test::MaxAbs(p.weight);
  // |ds1| <= |dalpha| / 4 + |dm| / (4 tau). alpha and m_soft move by a quarter of the margin's error (see above).
  const double ds = test::MaxAbs(dalpha) / 4 + test::MaxAbs(dm) / (4 * p.tau);
  const double margin =
      2 * (d + 4) * kUnit * (d * largest_u * largest_w + test::MaxAbs(p.bias) + test::MaxAbs(p.noise));
  const double ds_error = (margin / p.tau + 4 * kUnit) * ds * 4;
  // Row tiles of 64: 64 roundings of a partial sum of at most 64 ds, then one of the total for each tile.
  const double sum_error = rows * ds_error + kUnit * rows * ds * (66 + rows / 64);
  test::ForEachSimdTarget([&] {
    const KernelGradients got = RunBackward(p, dm, dalpha, du_start, dw_start, dtype);
    EXPECT_LE(test::MaxAbsError(got.du, expected.du), 2 * largest_w * ds_error +
                                                          4 * kUnit * (2 * largest_w * ds + test::MaxAbs(du_start)) +
                                                          test::StorageRoundoff(dtype) * test::MaxAbs(expected.du));
    EXPECT_LE(test::MaxAbsError(got.dweight, expected.dweight),
              largest_u * sum_error + 2 * kUnit * test::MaxAbs(expected.dweight));
    EXPECT_LE(test::MaxAbsError(got.dbias, expected.dbias), sum_error + 2 * kUnit * (4 + rows * ds));
    EXPECT_TRUE(got.guards_intact);
  });
}

TEST(TokenGate, BackwardMatchesTheReference) {
  for (const int64_t d : {1, 15, 16, 17, 33, 100, 300}) {
    for (const int64_t rows : {0, 1, 3, 64, 65, 200}) {
      SCOPED_TRACE(testing::Message() << "d " << d << ", rows " << rows);
      ExpectBackwardMatches(RandomProblem(rows, d, rows % 2 == 1));
      ExpectBackwardMatches(RandomProblem(rows, d, rows % 2 == 1, DType::kBF16), DType::kBF16);
    }
  }
}

TEST(TokenGate, NanInTheGradientReachesTheWeights) {
  const GateProblem<double> p = RandomProblem(70, 17, false);
  std::vector<float> dm(70), dalpha(70);
  dm[69] = kNan;
  const KernelGradients got = RunBackward(p, dm, dalpha, std::vector<float>(70 * 17), std::vector<float>(34));
  for (const float x : got.dweight) EXPECT_TRUE(std::isnan(x));
  for (size_t i = 0; i < got.du.size(); ++i) EXPECT_EQ(std::isnan(got.du[i]), i / 17 == 69);
}

TEST(TokenGate, ThreadsDoNotChangeTheBits) {
  const GateProblem<double> p = RandomProblem(333, 600, true);
  const auto dm = test::RandomVector<float>(p.rows, 7), dalpha = test::RandomVector<float>(p.rows, 8);
  test::ExpectSameBitsForAnyThreads([&] {
    std::vector<float> all = RunGate(p).Everything();
    const KernelGradients got =
        RunBackward(p, dm, dalpha, std::vector<float>(p.u.size()), std::vector<float>(p.weight.size()));
    for (const auto* part : {&got.du, &got.dweight, &got.dbias}) all.insert(all.end(), part->begin(), part->end());
    return all;
  });
}

}  // namespace
}  // namespace taipan
