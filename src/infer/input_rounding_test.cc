#include "infer/input_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "base/rng.h"
#include "formats/ggml_quantize.h"
#include "tensor/ggml_codes.h"

namespace taipan {
namespace {

constexpr int64_t kRows = 18, kCols = 512;
constexpr GgmlType kTypes[] = {GgmlType::kQ4_0, GgmlType::kQ4_1,   GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kQ8_0,
                               GgmlType::kQ4_K, GgmlType::kIQ4_NL, GgmlType::kQ5_K, GgmlType::kQ6_K};

Tensor Normal(std::vector<int64_t> shape, uint32_t stream) {
  Tensor t(std::move(shape));
  for (int64_t i = 0; i < t.size(); ++i) {
    t.F32()[i] = static_cast<float>(RandomNormal({1, kTestStream + stream}, static_cast<uint64_t>(i)));
  }
  return t;
}

// Of inputs that are mixtures of few directions, and of very different sizes.
Tensor Moments(int64_t n) {
  const int64_t inputs = 48, directions = 24;
  const Tensor mixes = Normal({inputs, directions}, 1), directions_of = Normal({directions, n}, 2);
  Tensor moments({n, n});
  for (int64_t t = 0; t < inputs; ++t) {
    std::vector<float> x(static_cast<size_t>(n));
    for (int64_t k = 0; k < n; ++k) {
      float& sum = x[static_cast<size_t>(k)];
      for (int64_t d = 0; d < directions; ++d) sum += mixes.F32()[t * directions + d] * directions_of.F32()[d * n + k];
      sum *= k % 7 == 0 ? 4.0f : 1.0f;
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) moments.F32()[i * n + j] += x[static_cast<size_t>(i)] * x[static_cast<size_t>(j)];
    }
  }
  return moments;
}

const Tensor& WideMoments() {
  static const Tensor moments = Moments(kCols);
  return moments;
}

// sqrt of tr(E H E^T) over tr(W H W^T), of some rows.
double ProductError(const Tensor& weights, const std::vector<float>& rounded, const Tensor& moments) {
  double error = 0, size = 0;
  const int64_t n = moments.shape()[0];
  for (int64_t r = 0; r < kRows; r += 6) {
    const float *w = weights.F32() + r * n, *q = rounded.data() + r * n;
    for (int64_t i = 0; i < n; ++i) {
      double of_error = 0, of_size = 0;
      for (int64_t j = 0; j < n; ++j) {
        of_error += double{moments.F32()[i * n + j]} * (w[j] - q[j]);
        of_size += double{moments.F32()[i * n + j]} * w[j];
      }
      error += of_error * (w[i] - q[i]);
      size += of_size * w[i];
    }
  }
  return std::sqrt(error / size);
}

std::vector<float> Decoded(GgmlType type, const std::vector<uint8_t>& blocks) {
  std::vector<float> values(blocks.size() / static_cast<size_t>(BlockBytes(type)) *
                            static_cast<size_t>(BlockElements(type)));
  Dequantize(type, blocks.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

std::vector<uint8_t> BlocksFor(GgmlType type, const Tensor& weights) {
  return std::vector<uint8_t>(static_cast<size_t>(weights.size() / BlockElements(type) * BlockBytes(type)));
}

TEST(InputFactor, MultipliesBackToTheMoments) {
  constexpr int64_t kN = 150;  // several panels and a part of one
  const Tensor moments = Moments(kN);
  const InputFactor factor(moments, 0.01);
  double mean = 0, off = 0, size = 0;
  for (int64_t i = 0; i < kN; ++i) mean += moments.F32()[i * kN + i] / double{kN};
  const auto u = [&](int64_t j, int64_t k) { return j == k ? 1.0 : double{factor.Feedback().F32(k)[j]}; };
  for (int64_t i = 0; i < kN; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = i; k < kN; ++k) sum += u(i, k) * double{factor.Importance()[k]} * u(j, k);
      const double expected = moments.F32()[i * kN + j] + (i == j ? 0.01 * mean : 0);
      off += std::pow(sum - expected, 2);
      size += expected * expected;
    }
  }
  EXPECT_LE(std::sqrt(off / size), 1e-6);
}

TEST(RoundForInputs, ProductsChangeLessThanWithTheNearestValues) {
  const Tensor weights = Normal({kRows, kCols}, 3);
  const Tensor& moments = WideMoments();
  const InputFactor factor(moments, 0.01);
  for (const GgmlType type : kTypes) {
    std::vector<uint8_t> nearest = BlocksFor(type, weights), blocks = nearest;
    ASSERT_TRUE(Quantize(type, weights.F32(), weights.size(), nearest.data()));
    ASSERT_TRUE(RoundForInputs(type, weights, factor, blocks.data()));
    EXPECT_LE(ProductError(weights, Decoded(type, blocks), moments),
              0.3 * ProductError(weights, Decoded(type, nearest), moments))
        << NameOf(type);
  }
}

TEST(RoundForInputs, ThreadsChangeNoBit) {
  const Tensor weights = Normal({kRows, kCols}, 3);
  const Tensor& moments = WideMoments();
  const int threads = NumThreads();
  std::vector<std::vector<uint8_t>> results;
  for (const int n : {1, 3}) {
    SetNumThreads(n);
    results.push_back(BlocksFor(GgmlType::kQ4_K, weights));
    ASSERT_TRUE(RoundForInputs(GgmlType::kQ4_K, weights, InputFactor(moments, 0.01), results.back().data()));
  }
  SetNumThreads(threads);
  EXPECT_EQ(results[0], results[1]);
}

// Inputs that are always zero, such as those of a branch that no token came through: the nearest values.
TEST(RoundForInputs, NoInputsAtAll) {
  const Tensor weights = Normal({kRows, kCols}, 3);
  std::vector<uint8_t> blocks = BlocksFor(GgmlType::kQ4_0, weights);
  ASSERT_TRUE(RoundForInputs(GgmlType::kQ4_0, weights, InputFactor(Tensor({kCols, kCols}), 0.01), blocks.data()));
  const std::vector<float> rounded = Decoded(GgmlType::kQ4_0, blocks);
  double error = 0;
  for (int64_t i = 0; i < weights.size(); ++i) error += std::pow(weights.F32()[i] - rounded[static_cast<size_t>(i)], 2);
  EXPECT_LE(std::sqrt(error / static_cast<double>(weights.size())), 0.1);
}

TEST(RoundForInputs, WhatDoesNotFitIsRefused) {
  Tensor weights = Normal({kRows, kCols}, 3);
  weights.F32()[5000] = INFINITY;
  const InputFactor factor(WideMoments(), 0.01);
  for (const GgmlType type : kTypes) {
    std::vector<uint8_t> blocks = BlocksFor(type, weights);
    EXPECT_FALSE(RoundForInputs(type, weights, factor, blocks.data())) << NameOf(type);
  }
}

}  // namespace
}  // namespace taipan
