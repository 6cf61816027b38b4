#include "base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/error.h"

namespace taipan {
namespace {

using Words = std::array<uint32_t, 4>;

// kat_vectors of Random123, philox4x32 with 10 rounds.
TEST(Philox, PublishedVectors) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The same vector through the key: the layout (index low, index high, step, stream; seed low, high) is a promise,
// because every saved run depends on it.
TEST(Random, LayoutOfTheCounter) {
  const RandomKey key{.seed = 0x299f31d0a4093822, .stream = 0x03707344, .step = 0x13198a2e};
  EXPECT_EQ(RandomBits(key, 0x85a308d3243f6a88), (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, EveryPartOfTheKeyMatters) {
  const RandomKey key{.seed = 1, .stream = kTestStream, .step = 5};
  const Words base = RandomBits(key, 7);
  EXPECT_EQ(RandomBits(key, 7), base);
  EXPECT_NE(RandomBits(key, 8), base);
  EXPECT_NE(RandomBits(key, 7 + (uint64_t{1} << 32)), base);
  EXPECT_NE(RandomBits({.seed = 2, .stream = kTestStream, .step = 5}, 7), base);
  EXPECT_NE(RandomBits({.seed = 1 + (uint64_t{1} << 32), .stream = kTestStream, .step = 5}, 7), base);
  EXPECT_NE(RandomBits({.seed = 1, .stream = kTestStream + 1, .step = 5}, 7), base);
  EXPECT_NE(RandomBits({.seed = 1, .stream = kTestStream, .step = 6}, 7), base);
}

struct Moments {
  double mean = 0, variance = 0, skew = 0, kurtosis = 0, least = 1e300, most = -1e300;
};

template <class F>
Moments MomentsOf(int64_t n, F&& value) {
  std::vector<double> v(static_cast<size_t>(n));
  Moments m;
  for (int64_t i = 0; i < n; ++i) {
    const double x = v[static_cast<size_t>(i)] = value(static_cast<uint64_t>(i));
    m.mean += x / static_cast<double>(n);
    m.least = std::min(m.least, x);
    m.most = std::max(m.most, x);
  }
  double second = 0, third = 0, fourth = 0;
  for (double x : v) {
    const double d = x - m.mean;
    second += d * d;
    third += d * d * d;
    fourth += d * d * d * d;
  }
  m.variance = second / static_cast<double>(n);
  m.skew = third / static_cast<double>(n) / std::pow(m.variance, 1.5);
  m.kurtosis = fourth / static_cast<double>(n) / (m.variance * m.variance);
  return m;
}

constexpr int64_t kSamples = 400'000;
const double kRoot = std::sqrt(static_cast<double>(kSamples));

// Tolerances are five standard errors: sd / sqrt(n) for a mean, sqrt((kurtosis - 1) / n) variances for a variance,
// sqrt(6 / n) and sqrt(24 / n) for skew and kurtosis of a normal.
TEST(Random, UniformMoments) {
  const Moments m =
      MomentsOf(kSamples, [](uint64_t i) { return RandomUniform({.seed = 3, .stream = kTestStream}, i); });
  EXPECT_NEAR(m.mean, 0.5, 5 * std::sqrt(1.0 / 12) / kRoot);
  EXPECT_NEAR(m.variance, 1.0 / 12, 5 * std::sqrt(1.8 - 1) / 12 / kRoot);
  EXPECT_GT(m.least, 0.0);
  EXPECT_LT(m.most, 1.0);
  EXPECT_LT(m.least, 20.0 / kSamples);  // P(no value below c / n) = exp(-c)
  EXPECT_GT(m.most, 1 - 20.0 / kSamples);
}

TEST(Random, NormalMoments) {
  const Moments m = MomentsOf(kSamples, [](uint64_t i) { return RandomNormal({.seed = 4, .stream = kTestStream}, i); });
  EXPECT_NEAR(m.mean, 0, 5 / kRoot);
  EXPECT_NEAR(m.variance, 1, 5 * std::sqrt(2) / kRoot);
  EXPECT_NEAR(m.skew, 0, 5 * std::sqrt(6) / kRoot);
  EXPECT_NEAR(m.kurtosis, 3, 5 * std::sqrt(24) / kRoot);
}

TEST(Random, GumbelMomentsAndIndependence) {
  const RandomKey key{.seed = 5, .stream = kGumbelStream};
  const double euler = 0.57721566490153286, variance = std::acos(-1.0) * std::acos(-1.0) / 6;
  double product = 0;
  for (size_t which : {0u, 1u}) {
    const Moments m = MomentsOf(kSamples, [&](uint64_t i) { return RandomGumbelPair(key, i)[which]; });
    EXPECT_NEAR(m.mean, euler, 5 * std::sqrt(variance) / kRoot);
    EXPECT_NEAR(m.variance, variance, 5 * variance * std::sqrt(5.4 - 1) / kRoot);
    EXPECT_NEAR(m.skew, 1.1395, 0.05);
  }
  for (uint64_t i = 0; i < kSamples; ++i) {
    const auto g = RandomGumbelPair(key, i);
    product += (g[0] - euler) * (g[1] - euler) / static_cast<double>(kSamples);
  }
  EXPECT_NEAR(product, 0, 5 * variance / kRoot);
}

TEST(Random, BelowIsUniform) {
  const uint64_t n = 7;
  std::vector<int> counts(n);
  for (uint64_t i = 0; i < 70'000; ++i) ++counts[RandomBelow({.seed = 6, .stream = kTestStream}, i, n)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 5 * std::sqrt(70'000.0 / 7 * 6 / 7));
  EXPECT_EQ(RandomBelow({}, 0, 1), 0u);
  double mean = 0;
  for (uint64_t i = 0; i < 10'000; ++i) mean += static_cast<double>(RandomBelow({}, i, ~uint64_t{0})) / 10'000;
  EXPECT_NEAR(mean * 0x1p-64, 0.5, 5 * std::sqrt(1.0 / 12) / 100);
  EXPECT_THROW(RandomBelow({}, 0, 0), InternalError);
}

TEST(Random, PermutationIsABijection) {
  for (uint64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 100, 1000, 1023, 1024, 1025, 4097}) {
    for (uint32_t epoch : {0u, 1u}) {
      std::vector<bool> seen(n);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t image = RandomPermutation({.seed = 9, .stream = kShuffleStream, .step = epoch}, i, n);
        ASSERT_LT(image, n);
        ASSERT_FALSE(seen[image]) << "n " << n << " i " << i;
        seen[image] = true;
      }
    }
  }
  const uint64_t huge = (uint64_t{1} << 63) + 12345;
  EXPECT_LT(RandomPermutation({}, huge - 1, huge), huge);
  EXPECT_NE(RandomPermutation({}, 1, huge), RandomPermutation({}, 2, huge));
  EXPECT_THROW(RandomPermutation({}, 5, 5), InternalError);
}

TEST(Random, PermutationsOfFourAreUniform) {
  std::map<std::array<uint64_t, 4>, int> counts;
  const int trials = 12'000;
  for (uint32_t epoch = 0; epoch < trials; ++epoch) {
    std::array<uint64_t, 4> p{};
    for (uint64_t i = 0; i < 4; ++i)
      p[i] = RandomPermutation({.seed = 10, .stream = kShuffleStream, .step = epoch}, i, 4);
    ++counts[p];
  }
  EXPECT_EQ(counts.size(), 24u);
  double chi2 = 0;
  for (const auto& [p, count] : counts) chi2 += (count - 500.0) * (count - 500.0) / 500.0;
  EXPECT_LT(chi2, 23 + 4 * std::sqrt(2 * 23.0));  // 23 degrees of freedom, four standard deviations above
}

TEST(Random, PermutationShufflesNeighbours) {
  const uint64_t n = 10'000;
  double correlation = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(i) / n - 0.5;
    const double y = static_cast<double>(RandomPermutation({.seed = 11, .stream = kShuffleStream}, i, n)) / n - 0.5;
    correlation += 12 * x * y / n;
  }
  EXPECT_NEAR(correlation, 0, 5.0 / 100);
}

}  // namespace
}  // namespace taipan
