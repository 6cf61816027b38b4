#include "kernels/adamw.h"

#include <bit>

#include "kernels/adamw_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

constexpr double kUnit = test::kFloatEps / 2;  // unit roundoff of f32

// Arrays that start one float past an aligned address.
struct Arrays {
  explicit Arrays(int64_t n) : param(1, n, 0, 1), m(1, n, 0, 1), v(1, n, 0, 1), gradient(1, n, 0, 1) {}
  test::PaddedMatrix param, m, v, gradient;

  AdamWElements Elements() {
    return {param.View().F32(), gradient.View().F32(), m.View().F32(), v.View().F32(), param.View().cols};
  }
  bool GuardsIntact() const { return param.GuardsIntact() && m.GuardsIntact() && v.GuardsIntact(); }
};

void ExpectMatchesReference(int64_t n, AdamWSettings settings, int64_t steps) {
  Arrays arrays(n);
  arrays.param.FillRandom(1);
  std::vector<double> param = arrays.param.DenseDouble();
  std::vector<double> m(param.size()), v(param.size());
  double largest = 0, largest_param = test::MaxAbs(param);
  for (int64_t step = 1; step <= steps; ++step) {
    arrays.gradient.FillRandom(100 + static_cast<uint64_t>(step), 0.3);
    const std::vector<double> gradient = arrays.gradient.DenseDouble();
    settings.step = step;
    AdamW(arrays.Elements(), settings);
    reference::AdamW(param, gradient, m, v, settings);
    largest = std::max(largest, test::MaxAbs(gradient) * static_cast<double>(settings.gradient_scale));
    largest_param = std::max(largest_param, test::MaxAbs(param));
  }
  // Averages of values up to `largest`: four roundings a step, forgotten after 1 / (1 - beta) steps (or never, so far).
  const auto memory = [&](double beta) { return std::min(static_cast<double>(steps), 1 / (1 - beta)); };
  EXPECT_LE(test::MaxAbsError(arrays.m.Dense(), m), 4 * kUnit * largest * memory(settings.beta1));
  EXPECT_LE(test::MaxAbsError(arrays.v.Dense(), v), 4 * kUnit * largest * largest * memory(settings.beta2));
  // A step rounds the parameter once; the update (at most about 4 lr here) carries the relative error of m and v.
  const double update_error = 4 * settings.lr * kUnit * (16 + 8 * memory(settings.beta1));
  EXPECT_LE(test::MaxAbsError(arrays.param.Dense(), param),
            static_cast<double>(steps) * (kUnit * largest_param + update_error));
  EXPECT_TRUE(arrays.GuardsIntact());
}

TEST(AdamW, MatchesTheReferenceOverAHundredSteps) {
  test::ForEachSimdTarget([] {
    ExpectMatchesReference(61, {.lr = 1e-3, .weight_decay = 0.1}, 100);
    ExpectMatchesReference(61, {.lr = 1e-3, .weight_decay = 0}, 100);
    ExpectMatchesReference(61, {.lr = 3e-3, .beta2 = 0.999, .eps = 1e-3, .weight_decay = 0.01, .gradient_scale = 0.37f},
                           100);
  });
}

TEST(AdamW, EveryLengthToTwoVectorsAndOverBlocks) {
  test::ForEachSimdTarget([] {
    for (int64_t n = 0; n <= 35; ++n) ExpectMatchesReference(n, {.lr = 1e-2, .weight_decay = 0.1}, 2);
    for (const int64_t n : {16384, 16385, 40000}) ExpectMatchesReference(n, {.lr = 1e-2, .weight_decay = 0.1}, 2);
  });
}

TEST(AdamW, FirstStepMovesEachParameterByTheLearningRate) {
  constexpr int64_t kSize = 40;
  Arrays arrays(kSize);
  arrays.gradient.FillRandom(2);
  AdamW(arrays.Elements(), {.lr = 0.5, .eps = 0});
  for (int64_t i = 0; i < kSize; ++i) {
    const float g = arrays.gradient.View().F32()[i];
    EXPECT_NEAR(arrays.param.View().F32()[i], g > 0 ? -0.5 : 0.5, 8 * kUnit);
  }
}

TEST(AdamW, WeightDecayAloneShrinksAndZeroDecayKeeps) {
  for (const double decay : {0.0, 0.25}) {
    Arrays arrays(40);
    arrays.param.FillRandom(3);
    const std::vector<float> before = arrays.param.Dense();
    AdamW(arrays.Elements(), {.lr = 0.5, .weight_decay = decay});
    const std::vector<float> after = arrays.param.Dense();
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_EQ(after[i], before[i] - static_cast<float>(0.5 * decay) * before[i]);
  }
}

TEST(AdamW, GradientScaleIsAFactorOfTheGradient) {
  Arrays scaled(40), plain(40);
  scaled.gradient.FillRandom(4);
  std::vector<float> half = scaled.gradient.Dense();
  for (float& g : half) g *= 0.25f;
  plain.gradient.Fill(half);
  AdamW(scaled.Elements(), {.lr = 0.1, .gradient_scale = 0.25f});
  AdamW(plain.Elements(), {.lr = 0.1});
  EXPECT_TRUE(test::SameBits(scaled.param.Dense(), plain.param.Dense()));
  EXPECT_TRUE(test::SameBits(scaled.v.Dense(), plain.v.Dense()));
}

// A value as it is stored in bf16, rounded by 16 random bits.
float RoundedBy(float x, uint32_t random) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(x) + (random & 0xffff)) & 0xffff0000u);
}

// The draw of the element at a place: its word among those of the sixteen draws of its group.
uint32_t DrawAt(const RandomKey& key, uint64_t place) {
  const uint64_t group = place / 64, within = place % 64;
  return RandomBits(key, group * 16 + within % 16)[within / 16];
}

TEST(AdamW, MomentsInBF16AreThoseInF32RoundedByTheDrawsOfTheirPlaces) {
  const RandomKey key{.seed = (uint64_t{7} << 32) + 5, .stream = kTestStream, .step = 3};
  const AdamWSettings settings = {.lr = 0.1, .weight_decay = 0.1, .step = 2};
  test::ForEachSimdTarget([&] {
    for (const int64_t n : {1, 15, 63, 64, 81, 20000}) {
      Arrays plain(n), rounded(n);
      test::PaddedMatrix m(1, n, 0, 1, DType::kBF16), v(1, n, 0, 1, DType::kBF16), copy(1, n, 0, 1, DType::kBF16);
      for (Arrays* arrays : {&plain, &rounded}) arrays->param.FillRandom(1), arrays->gradient.FillRandom(2);
      m.FillRandom(3, 0.1), v.Fill(std::vector<float>(static_cast<size_t>(n), 0.125f));
      plain.m.Fill(m.Dense()), plain.v.Fill(v.Dense());
      AdamW(plain.Elements(), settings);
      // In two calls, as two ranks would, where there is more than one group.
      const int64_t cut = n / 128 * 64;
      float *const param = rounded.param.View().F32(), *const gradient = rounded.gradient.View().F32();
      BF16 *const ms = m.View().As<BF16>(), *const vs = v.View().As<BF16>(), *const copies = copy.View().As<BF16>();
      const uint64_t first = uint64_t{1} << 34;
      AdamW({param, gradient, ms, vs, cut}, settings, {key, first}, {copies, gradient});
      AdamW({param + cut, gradient + cut, ms + cut, vs + cut, n - cut}, settings,
            {key, first + static_cast<uint64_t>(cut)}, {copies + cut, gradient + cut});
      EXPECT_TRUE(test::SameBits(rounded.param.Dense(), plain.param.Dense()));
      std::vector<float> expected_m = plain.m.Dense(), expected_v = plain.v.Dense();
      for (size_t i = 0; i < expected_m.size(); ++i) {
        const uint32_t draw = DrawAt(key, first + i);
        expected_m[i] = RoundedBy(expected_m[i], draw);
        expected_v[i] = RoundedBy(expected_v[i], draw >> 16);
      }
      EXPECT_TRUE(test::SameBits(m.Dense(), expected_m)) << n;
      EXPECT_TRUE(test::SameBits(v.Dense(), expected_v)) << n;
      EXPECT_TRUE(test::SameBits(copy.Dense(), test::Stored(plain.param.Dense(), DType::kBF16)));
      EXPECT_EQ(test::MaxAbs(rounded.gradient.Dense()), 0);
      EXPECT_TRUE(m.GuardsIntact() && v.GuardsIntact() && copy.GuardsIntact() && rounded.param.GuardsIntact());
    }
  });
}

// A moment that moves by a tenth of a step of bf16 at a time would stay for ever if it were rounded to nearest.
TEST(AdamW, MomentsInBF16FollowWhatIsSmallerThanTheirSteps) {
  constexpr int64_t kSize = 4096;
  Arrays arrays(kSize);
  test::PaddedMatrix m(1, kSize, 0, 0, DType::kBF16), v(1, kSize, 0, 0, DType::kBF16);
  m.Fill(std::vector<float>(kSize, 1.0f)), v.Fill(std::vector<float>(kSize, 1.0f));
  arrays.gradient.Fill(std::vector<float>(kSize, 1.5f));
  constexpr int kSteps = 100;
  for (uint32_t step = 1; step <= kSteps; ++step) {
    AdamW({arrays.param.View().F32(), arrays.gradient.View().F32(), m.View().As<BF16>(), v.View().As<BF16>(), kSize},
          {.beta1 = 0.999, .beta2 = 0.9995}, {{.stream = kTestStream, .step = step}, 0});
  }
  const auto mean = [](const test::PaddedMatrix& x) {
    double sum = 0;
    for (const float value : x.Dense()) sum += value;
    return sum / kSize;
  };
  // Of one element the roundings of a hundred steps have a standard deviation of 10 * 2^-7 / 2 at most.
  const double tolerance = 4 * 10 * 0x1p-8 / std::sqrt(kSize);
  EXPECT_NEAR(mean(m), 1.5 - 0.5 * std::pow(0.999, kSteps), tolerance);
  EXPECT_NEAR(mean(v), 2.25 - 1.25 * std::pow(0.9995, kSteps), tolerance);
}

TEST(AdamW, CopiesParametersAndClearsTheGradientInTheSamePass) {
  test::ForEachSimdTarget([] {
    for (const int64_t n : {1, 15, 16, 17, 35, 16385}) {
      Arrays plain(n), also(n);
      for (Arrays* arrays : {&plain, &also}) {
        arrays->param.FillRandom(1), arrays->gradient.FillRandom(2), arrays->m.FillRandom(3, 0.1);
      }
      const AdamWSettings settings = {.lr = 0.1, .weight_decay = 0.1};
      const std::vector<float> gradient = plain.gradient.Dense();
      test::PaddedMatrix copy(1, n, 0, 1, DType::kBF16);
      AdamW(plain.Elements(), settings);
      AdamW(also.Elements(), settings, {.bf16 = copy.View().As<BF16>(), .clear = also.gradient.View().F32()});
      EXPECT_TRUE(test::SameBits(also.param.Dense(), plain.param.Dense()));
      EXPECT_TRUE(test::SameBits(also.m.Dense(), plain.m.Dense()));
      EXPECT_TRUE(test::SameBits(also.v.Dense(), plain.v.Dense()));
      EXPECT_TRUE(test::SameBits(copy.Dense(), test::Stored(plain.param.Dense(), DType::kBF16)));
      EXPECT_EQ(test::MaxAbs(also.gradient.Dense()), 0);
      EXPECT_TRUE(test::SameBits(plain.gradient.Dense(), gradient));
      EXPECT_TRUE(also.GuardsIntact() && also.gradient.GuardsIntact() && copy.GuardsIntact());
    }
  });
}

TEST(AdamW, ClearsItsOwnGradientOnly) {
  std::vector<float> a(4), b(4), other(4);
  EXPECT_THROW(AdamW({a.data(), b.data(), a.data(), a.data(), 4}, {.lr = 0.1}, {.clear = other.data()}), InternalError);
}

TEST(AdamW, NanStaysWithItsParameter) {
  test::ForEachSimdTarget([] {
    Arrays arrays(37);
    arrays.gradient.FillRandom(5);
    arrays.gradient.View().F32()[36] = std::numeric_limits<float>::quiet_NaN();
    arrays.gradient.View().F32()[8] = std::numeric_limits<float>::quiet_NaN();
    AdamW(arrays.Elements(), {.lr = 0.1});
    for (int64_t i = 0; i < 37; ++i) EXPECT_EQ(std::isnan(arrays.param.View().F32()[i]), i == 36 || i == 8) << i;
  });
}

TEST(AdamW, ThreadsDoNotChangeTheBits) {
  constexpr int64_t kSize = 70001;
  test::ExpectSameBitsForAnyThreads([] {
    Arrays arrays(kSize);
    arrays.param.FillRandom(6);
    arrays.gradient.FillRandom(7);
    AdamW(arrays.Elements(), {.lr = 0.1, .weight_decay = 0.1});
    return arrays.param.Dense();
  });
}

TEST(SquaredNorm, MatchesTheReference) {
  test::ForEachSimdTarget([] {
    for (int64_t n = 0; n <= 35; ++n) {
      const test::PaddedMatrix x = test::PaddedMatrix(1, n, 0, 1).FillRandom(8);
      const double expected = reference::SquaredNorm(x.DenseDouble());
      EXPECT_NEAR(SquaredNorm(x.View().F32(), n), expected, 1e-14 * expected) << n;  // n roundings of 1e-16
    }
    for (const int64_t n : {16384, 16385, 40000}) {
      const test::PaddedMatrix x = test::PaddedMatrix(1, n, 0, 1).FillRandom(9);
      const double expected = reference::SquaredNorm(x.DenseDouble());
      EXPECT_NEAR(SquaredNorm(x.View().F32(), n), expected, 5e-12 * expected) << n;
    }
  });
}

TEST(SquaredNorm, LargeValuesDoNotOverflowAndNanAndInfinityComeThrough) {
  test::ForEachSimdTarget([] {
    std::vector<float> x(37, 1e30f);
    EXPECT_NEAR(SquaredNorm(x.data(), 37) / (37.0 * static_cast<double>(1e30f) * static_cast<double>(1e30f)), 1, 1e-14);
    for (size_t at = 0; at < x.size(); ++at) {
      std::vector<float> bad = x;
      bad[at] = std::numeric_limits<float>::infinity();
      EXPECT_TRUE(std::isinf(SquaredNorm(bad.data(), 37)));
      bad[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_TRUE(std::isnan(SquaredNorm(bad.data(), 37)));
    }
  });
}

TEST(SquaredNorm, ThreadsDoNotChangeTheBits) {
  const std::vector<float> x = test::RandomVector<float>(100003, 10);
  double one = 0;
  for (const int threads : {1, 2, 3}) {
    test::ThreadCount count(threads);
    const double norm = SquaredNorm(x.data(), 100003);
    if (threads == 1) one = norm;
    EXPECT_EQ(norm, one) << threads << " threads";
  }
}

}  // namespace
}  // namespace taipan
