#include "formats/ggml_round.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "formats/ggml_quantize.h"
#include "tensor/f16.h"

namespace taipan {
namespace {

constexpr GgmlType kTypes[] = {GgmlType::kQ4_0,   GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                               GgmlType::kIQ4_NL, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K};

std::vector<float> Normal(int64_t n, uint64_t seed) {
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(RandomNormal({seed, kTestStream}, i) * 0.02);
  return x;
}

std::vector<float> Rounded(GgmlType type, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint8_t> blocks(static_cast<size_t>(n / BlockElements(type) * BlockBytes(type)));
  EXPECT_TRUE(Quantize(type, x.data(), n, blocks.data())) << NameOf(type);
  std::vector<float> back(x.size());
  Dequantize(type, blocks.data(), n, back.data());
  return back;
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& x) {
  double error = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - x[i], 2);
    size += std::pow(static_cast<double>(x[i]), 2);
  }
  return std::sqrt(error / size);
}

// A scale that puts the largest of 32 on the last level, and no search.
double PlainError(const std::vector<float>& x, float levels) {
  std::vector<float> got(x.size());
  for (size_t i = 0; i < x.size(); i += 32) {
    float most = 0;
    for (size_t j = i; j < i + 32; ++j) most = std::max(most, std::abs(x[j]));
    for (size_t j = i; j < i + 32; ++j) got[j] = std::round(x[j] / most * levels) * most / levels;
  }
  return RelativeError(got, x);
}

TEST(GgmlRound, FindsBetterScalesThanThoseOfTheLargest) {
  const std::vector<float> x = Normal(1 << 14, 1);
  const double four = PlainError(x, 7), five = PlainError(x, 15);
  const auto error = [&](GgmlType type) { return RelativeError(Rounded(type, x), x); };
  EXPECT_LE(error(GgmlType::kQ4_0), 0.85 * four);
  EXPECT_LE(error(GgmlType::kIQ4_NL), 0.8 * four);
  EXPECT_LE(error(GgmlType::kQ4_1), 0.8 * four);
  EXPECT_LE(error(GgmlType::kQ4_K), 0.8 * four);
  EXPECT_LE(error(GgmlType::kQ5_0), 0.9 * five);
  EXPECT_LE(error(GgmlType::kQ5_1), 0.8 * five);
  EXPECT_LE(error(GgmlType::kQ5_K), 0.8 * five);
  EXPECT_LE(error(GgmlType::kQ6_K), 0.5 * five);
}

// Numbers that the type holds: blocks of random codes, in whose range those of real weights lie.
TEST(GgmlRound, WhatTheTypeHoldsStays) {
  for (const GgmlType type : kTypes) {
    const std::vector<float> x = Rounded(type, Normal(4096, 2));
    EXPECT_LE(RelativeError(Rounded(type, x), x), type == GgmlType::kQ4_K || type == GgmlType::kQ5_K ? 0.02 : 2e-3)
        << NameOf(type);
  }
}

TEST(GgmlRound, ZerosAndConstantsAreExactEnough) {
  for (const GgmlType type : kTypes) {
    EXPECT_EQ(Rounded(type, std::vector<float>(256)), std::vector<float>(256)) << NameOf(type);
    for (const float value : {0.5f, -0.5f}) {
      const std::vector<float> x(256, value);
      EXPECT_LE(RelativeError(Rounded(type, x), x), 0.004) << NameOf(type);
    }
    std::vector<float> one(256);
    one[77] = -3.0f;
    // IQ4_NL has no zero: its least level is 1 of 127.
    EXPECT_LE(RelativeError(Rounded(type, one), one), type == GgmlType::kIQ4_NL ? 0.05 : 0.01) << NameOf(type);
  }
}

TEST(GgmlRound, WhatDoesNotFitIsRefused) {
  for (const GgmlType type : kTypes) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), 1e15f}) {
      std::vector<float> x(256, 1.0f);
      x[200] = bad;
      uint8_t to[1024];
      EXPECT_FALSE(Quantize(type, x.data(), 256, to)) << NameOf(type) << " " << bad;
    }
  }
}

}  // namespace
}  // namespace taipan
