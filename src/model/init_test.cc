#include "model/init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"

namespace taipan {
namespace {

constexpr int64_t kSamples = 40000;  // more than two tasks of the parallel loop
constexpr RandomKey kKey = {.seed = 7, .stream = kInitStream + 3};

Tensor Sample(Init init, std::vector<int64_t> shape, int branches = 1, double gate_bias = 0, RandomKey key = kKey) {
  Weight w({.name = "p", .group = "", .shape = std::move(shape), .init = init});
  w.f32 = Tensor(w.spec.shape);
  std::fill_n(w.f32.F32(), w.f32.size(), std::nanf(""));  // every element has to be written
  InitialiseWeight(w, key, 0.02, branches, gate_bias);
  return w.f32;
}

std::vector<double> Values(const Tensor& t) { return {t.F32(), t.F32() + t.size()}; }

// The largest distance between the empirical distribution and `cdf`. For n samples of that distribution it exceeds
// sqrt(ln(2 / p) / (2 n)) with probability p at most (Dvoretzky-Kiefer-Wolfowitz).
template <class F>
double KolmogorovSmirnov(std::vector<double> values, F&& cdf) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  double distance = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]);
    distance = std::max({distance, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
  }
  return distance;
}
double KsBound(double n) { return std::sqrt(std::log(2 / 1e-3) / (2 * n)); }

// Normal with deviation s: the mean of n has deviation s / sqrt(n), the variance s^2 sqrt(2 / n); five of each allowed.
void ExpectNormal(const std::vector<double>& values, double s) {
  const auto n = static_cast<double>(values.size());
  double mean = 0, square = 0;
  for (double v : values) mean += v / n;
  for (double v : values) square += (v - mean) * (v - mean) / n;
  EXPECT_LE(std::abs(mean), 5 * s / std::sqrt(n));
  EXPECT_LE(std::abs(square / (s * s) - 1), 5 * std::sqrt(2 / n));
  EXPECT_LE(KolmogorovSmirnov(values, [&](double v) { return 0.5 * std::erfc(-v / (s * std::sqrt(2.0))); }),
            KsBound(n));
}

TEST(Init, Normal) { ExpectNormal(Values(Sample(Init::kNormal, {200, kSamples / 200})), 0.02); }

TEST(Init, ResidualProjectionsShrinkWithTheirNumber) {
  ExpectNormal(Values(Sample(Init::kNormalResidual, {200, kSamples / 200}, 24)), 0.02 / std::sqrt(24.0));
  EXPECT_THROW(Sample(Init::kNormalResidual, {4}, 0), InternalError);
}

TEST(Init, OnesAndZeros) {
  for (double v : Values(Sample(Init::kOnes, {17}))) EXPECT_EQ(v, 1.0);
  for (double v : Values(Sample(Init::kZeros, {17}))) EXPECT_EQ(v, 0.0);
}

TEST(Init, ConvolutionIsUniformWithinItsWidth) {
  const std::vector<double> values = Values(Sample(Init::kConv, {kSamples / 4, 4}));
  for (double v : values) ASSERT_LE(std::abs(v), 0.5);
  EXPECT_LE(KolmogorovSmirnov(values, [](double v) { return v + 0.5; }), KsBound(kSamples));
  const std::vector<double> narrow = Values(Sample(Init::kConv, {kSamples / 2, 2}));
  EXPECT_LE(KolmogorovSmirnov(narrow, [](double v) { return (v * std::sqrt(2.0) + 1) / 2; }), KsBound(kSamples));
  EXPECT_THROW(Sample(Init::kConv, {8}), InternalError);
}

TEST(Init, AIsUniformFromOneToSixteen) {
  std::vector<double> values = Values(Sample(Init::kALog, {kSamples}));
  for (double& v : values) v = std::exp(v);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*low, 1 - 1e-6);    // float rounding of the logarithm: half an ulp of at most 2.77
  EXPECT_LE(*high, 16 + 1e-5);  // that times 16
  EXPECT_LE(KolmogorovSmirnov(values, [](double v) { return (v - 1) / 15; }), KsBound(kSamples));
}

TEST(Init, TimeStepIsLogUniform) {
  std::vector<double> values = Values(Sample(Init::kDtBias, {kSamples}));
  for (double& v : values) v = std::log1p(std::exp(v));  // softplus
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*low, 1e-3 * (1 - 1e-6));
  EXPECT_LE(*high, 1e-1 * (1 + 1e-6));
  const auto cdf = [](double v) { return std::log(v / 1e-3) / std::log(100.0); };
  EXPECT_LE(KolmogorovSmirnov(values, cdf), KsBound(kSamples));
}

TEST(Init, GateBiasIsSplit) {
  const Tensor t = Sample(Init::kGateBias, {2}, 1, 3.0);
  EXPECT_EQ(t.F32()[0], -1.5f);
  EXPECT_EQ(t.F32()[1], 1.5f);
  EXPECT_THROW(Sample(Init::kGateBias, {3}), InternalError);
}

TEST(Init, DependsOnKeyAndIndexAlone) {
  const int threads = NumThreads();
  SetNumThreads(1);
  const Tensor one = Sample(Init::kNormal, {3, 20001});
  SetNumThreads(3);
  const Tensor three = Sample(Init::kNormal, {3, 20001});
  SetNumThreads(threads);
  EXPECT_EQ(std::memcmp(one.data(), three.data(), static_cast<size_t>(one.bytes())), 0);

  const Tensor shorter = Sample(Init::kNormal, {100});
  EXPECT_EQ(std::memcmp(one.data(), shorter.data(), static_cast<size_t>(shorter.bytes())), 0);
  const Tensor seed = Sample(Init::kNormal, {100}, 1, 0, {.seed = 8, .stream = kKey.stream});
  const Tensor stream = Sample(Init::kNormal, {100}, 1, 0, {.seed = 7, .stream = kKey.stream + 1});
  EXPECT_NE(shorter.F32()[0], seed.F32()[0]);
  EXPECT_NE(shorter.F32()[0], stream.F32()[0]);
}

}  // namespace
}  // namespace taipan
