#include "kernels/gemm/gemm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/gemm/gemm_rows.h"
#include "kernels/gemm/gemm_rows_f32.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/gemm/tile_bf16.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;
using test::RandomVector;
using test::RelativeFrobeniusError;

// A dot product of K terms in f32: a random walk of K roundings of 2^-24, relative to the sum's own size sqrt(K).
constexpr double kTolerance = 1e-6;

struct Shape {
  int64_t t, n, k;
};
std::vector<Shape> Shapes() {
  return {{0, 5, 3},    {1, 1, 1},    {1, 97, 40},    {3, 16, 7},    {15, 33, 64},
          {16, 33, 64}, {17, 5, 129}, {100, 200, 31}, {300, 70, 530}};
}

std::vector<double> Product(const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t n,
                            int64_t k) {
  std::vector<double> c(static_cast<size_t>(m * n));  // a [m, k], b [k, n]
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t l = 0; l < k; ++l) {
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + l] * b[l * n + j];
    }
  }
  return c;
}

std::vector<double> Transposed(const std::vector<double>& a, int64_t rows, int64_t cols) {
  std::vector<double> t(a.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) t[j * rows + i] = a[i * cols + j];
  }
  return t;
}

// A weight in memory of its own.
struct OwnedWeight {
  Tensor f32;
  operator LinearWeight() const { return {f32.Matrix()}; }
};

OwnedWeight Weight(int64_t n, int64_t k, uint64_t seed) {
  OwnedWeight w{Tensor({n, k})};
  const auto values = RandomVector<float>(n * k, seed);
  std::copy(values.begin(), values.end(), w.f32.F32());
  return w;
}

std::vector<double> Values(const Tensor& t) { return {t.F32(), t.F32() + t.size()}; }

TEST(Gemm, AgreesWithDoublePrecision) {
  for (const Shape& s : Shapes()) {
    const OwnedWeight w = Weight(s.n, s.k, 1);
    PaddedMatrix x(s.t, s.k, 3, 1), y(s.t, s.n, 2, 3), dx(s.t, s.k, 1, 1);
    x.FillRandom(2);
    const auto wv = Values(w.f32);
    const std::vector<double> expected = Product(x.DenseDouble(), Transposed(wv, s.n, s.k), s.t, s.n, s.k);
    Linear(x.View(), w, y.View());
    ASSERT_LE(RelativeFrobeniusError(y.Dense(), expected), kTolerance) << s.t << " " << s.n << " " << s.k;
    Linear(x.View(), w, y.View(), Accumulate::kAdd);
    std::vector<double> twice = expected;
    for (double& v : twice) v *= 2;
    ASSERT_LE(RelativeFrobeniusError(y.Dense(), twice), kTolerance);
    y.FillRandom(3);
    LinearBackwardInput(y.View(), w, dx.View());
    ASSERT_LE(RelativeFrobeniusError(dx.Dense(), Product(y.DenseDouble(), wv, s.t, s.k, s.n)), kTolerance);
    Tensor dw({s.n, s.k});
    LinearBackwardWeight(y.View(), x.View(), dw.Matrix());
    LinearBackwardWeight(y.View(), x.View(), dw.Matrix());
    std::vector<double> dw_expected = Product(Transposed(y.DenseDouble(), s.t, s.n), x.DenseDouble(), s.n, s.k, s.t);
    for (double& v : dw_expected) v *= 2;
    ASSERT_LE(RelativeFrobeniusError(Values(dw), dw_expected), kTolerance);
    ASSERT_TRUE(y.GuardsIntact() && dx.GuardsIntact());
  }
}

TEST(Gemm, SlicesOfTheWeightAreColumnsOfTheResult) {
  const OwnedWeight w = Weight(90, 24, 5);
  PaddedMatrix x(20, 24), whole(20, 90), part(20, 31, 4, 1);
  x.FillRandom(6);
  Linear(x.View(), w, whole.View());
  LinearSlice(x.View(), w, 17, part.View());
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t c = 0; c < 31; ++c) ASSERT_EQ(part.View().F32(r)[c], whole.View().F32(r)[17 + c]);
  }
}

// The promise of gemm.h: however many rows and threads, a row's bits are the same.
TEST(Gemm, ARowDependsOnNothingButItselfAndTheWeight) {
  for (const Shape& s : {Shape{300, 97, 40},
                         {300, 256, 64},
                         {300, 1064, 256},
                         {300, 256, 512},
                         {300, 768, 1536},
                         {300, 320, 896},
                         {300, 130, 1000},
                         {300, 1, 900},
                         {300, 5, 2048},
                         {40, 33, 97}}) {
    const OwnedWeight w = Weight(s.n, s.k, 1);
    PaddedMatrix x(s.t, s.k);
    x.FillRandom(2);
    for (const Accumulate acc : {Accumulate::kWrite, Accumulate::kAdd}) {
      for (const bool backward : {false, true}) {
        if (backward && s.n > 600) continue;
        PaddedMatrix in(s.t, backward ? s.n : s.k);
        in.FillRandom(4);
        const auto run = [&](int64_t begin, int64_t rows, int threads) {
          test::ThreadCount count(threads);
          PaddedMatrix y(s.t, backward ? s.k : s.n);
          y.FillRandom(7);
          const MatrixView out = y.View().Rows(begin, rows);
          if (backward) LinearBackwardInput(in.View().Rows(begin, rows), w, out, acc);
          if (!backward) Linear(in.View().Rows(begin, rows), w, out, acc);
          const auto dense = y.Dense();
          const int64_t cols = out.cols;
          return std::vector<float>(dense.begin() + begin * cols, dense.begin() + (begin + rows) * cols);
        };
        const std::vector<float> whole = run(0, s.t, 1);
        const int64_t cols = backward ? s.k : s.n;
        for (const int64_t rows : {1, 2, 7, 15, 16, 17, 33, 40, 64, 129, 300}) {
          if (rows > s.t || (s.n * s.k > 200000 && rows > 1 && rows < 300 && rows != 17 && rows != 129)) continue;
          for (const int threads : {1, rows % 2 == 0 ? 2 : 8}) {
            const int64_t begin = s.t - rows;
            const std::vector<float> expected(whole.begin() + begin * cols, whole.end());
            ASSERT_TRUE(test::SameBits(run(begin, rows, threads), expected))
                << rows << " rows, " << threads << " threads, n " << s.n << ", k " << s.k
                << (backward ? ", backward" : "");
          }
        }
      }
    }
  }
}

// One chain of fused multiply-adds over each block of K, the blocks' sums added in order.
float SumOfChains(const float* x, const float* w, int64_t k, const float* start) {
  const int64_t chain = RowRuleOf(DType::kF32).chain;
  float total = 0;
  for (int64_t begin = 0; begin < k;) {
    const int64_t count = ChainColumns(k - begin, chain);
    float sum = 0;
    for (int64_t i = begin; i < begin + count; ++i) sum = std::fma(x[i], w[i], sum);
    total = begin > 0 ? total + sum : start != nullptr ? *start + sum : sum;
    begin += count;
  }
  return total;
}

TEST(GemmFewRowsF32, AreSummedAsManyRowsAre) {
  if (ActiveProductIsa() < ProductIsa::kAvx2) GTEST_SKIP() << "no AVX2";
  // Where oneDNN sums otherwise, results are still right, but few rows are padded to many: decoding is slow.
  ASSERT_TRUE(FewRowsMatchInF32(64));
  test::ForEachSimdTarget([&] {
    if (!FewRowsMatchInF32(64)) return;  // a target below AVX2
    for (const auto& [n, k] : {std::pair{1, 1}, {5, 3}, {16, 384}, {35, 385}, {97, 901}, {40, 2048}}) {
      const OwnedWeight w = Weight(n, k, 1);
      for (const int64_t rows : {1, 2, 7, 8, 9, 17}) {
        for (const bool add : {false, true}) {
          PaddedMatrix x(rows, k, 3, 1), y(rows, n, 2, 3);
          x.FillRandom(2);
          y.FillRandom(3);
          const std::vector<float> before = y.Dense();
          FewRowsProductF32(x.View(), w.f32.Matrix(), y.View(), add);
          std::vector<float> expected = before;
          for (int64_t i = 0; i < rows * n; ++i) {
            float& to = expected[static_cast<size_t>(i)];
            to = SumOfChains(x.View().F32(i / n), w.f32.F32() + i % n * k, k, add ? &to : nullptr);
          }
          EXPECT_TRUE(test::SameBits(y.Dense(), expected))
              << rows << " x " << n << " x " << k << (add ? ", added" : "");
          EXPECT_TRUE(y.GuardsIntact());
        }
      }
    }
  });
}

TEST(Gemm, WeightGradientDoesNotDependOnThreads) {
  PaddedMatrix dy(3000, 72), x(3000, 40);
  dy.FillRandom(1);
  x.FillRandom(2);
  test::ExpectSameBitsForAnyThreads([&] {
    Tensor dw({72, 40});
    LinearBackwardWeight(dy.View(), x.View(), dw.Matrix());
    return std::vector<float>(dw.F32(), dw.F32() + dw.size());
  });
}

TEST(Gemm, RefusesShapesThatDoNotFit) {
  const OwnedWeight w = Weight(4, 3, 1);
  PaddedMatrix x(2, 3), y(2, 5);
  EXPECT_THROW(Linear(x.View(), w, y.View()), InternalError);
}

// Values rounded to bf16, as a matrix of them and in double.
struct RoundedMatrix {
  Tensor values;
  std::vector<double> exact;

  RoundedMatrix(int64_t rows, int64_t cols, uint64_t seed) : values({rows, cols}, DType::kBF16) {
    for (const float v : RandomVector<float>(rows * cols, seed)) {
      values.As<BF16>()[exact.size()] = ToBF16(v);
      exact.push_back(ToFloat(ToBF16(v)));
    }
  }
};

// Relative error of a matrix against `expected` in the Frobenius norm.
double ErrorOf(ConstMatrixView m, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) {
      const double e = expected[static_cast<size_t>(r * m.cols + c)];
      const double v = m.dtype == DType::kF32 ? m.F32(r)[c] : ToFloat(m.As<BF16>(r)[c]);
      error += (v - e) * (v - e);
      size += e * e;
    }
  }
  return size > 0 ? std::sqrt(error / size) : std::sqrt(error);
}

TEST(GemmBF16, AgreesWithDoublePrecision) {
  // Products of bf16 are exact in f32, so sums err as in f32; a bf16 result is rounded once, by at most 2^-8 of itself.
  const double rounded = kTolerance + 0x1p-8;
  for (const Shape& s : Shapes()) {
    if (s.t == 0) continue;
    const RoundedMatrix w(s.n, s.k, 1), x(s.t, s.k, 2), dy(s.t, s.n, 3);
    const LinearWeight weight{.f32 = {}, .bf16 = w.values.Matrix()};
    const auto y = Product(x.exact, Transposed(w.exact, s.n, s.k), s.t, s.n, s.k);
    Tensor y16({s.t, s.n}, DType::kBF16), y32({s.t, s.n}), dx({s.t, s.k}, DType::kBF16), dw({s.n, s.k});
    Linear(x.values.Matrix(), weight, y16.Matrix());
    EXPECT_LE(ErrorOf(y16.Matrix(), y), rounded);
    Linear(x.values.Matrix(), weight, y32.Matrix());
    Linear(x.values.Matrix(), weight, y32.Matrix(), Accumulate::kAdd);
    std::vector<double> twice = y;
    for (double& v : twice) v *= 2;
    EXPECT_LE(ErrorOf(y32.Matrix(), twice), kTolerance);
    LinearBackwardInput(dy.values.Matrix(), weight, dx.Matrix());
    EXPECT_LE(ErrorOf(dx.Matrix(), Product(dy.exact, w.exact, s.t, s.k, s.n)), rounded);
    LinearBackwardWeight(dy.values.Matrix(), x.values.Matrix(), dw.Matrix());
    EXPECT_LE(ErrorOf(dw.Matrix(), Product(Transposed(dy.exact, s.t, s.n), x.exact, s.n, s.k, s.t)), kTolerance);
  }
}

TEST(GemmFewRowsBF16, AgreeWithDoublePrecisionAndWithEachRowAlone) {
  for (const bool instructions : {false, true}) {
    AllowBF16Instructions(instructions);
    test::ForEachSimdTarget([&] {
      for (const auto& [n, k] : {std::pair{1, 1}, {5, 3}, {16, 64}, {35, 95}, {97, 161}, {600, 33}}) {
        const RoundedMatrix w(n, k, 1), x(17, k, 2);
        const auto expected = Product(x.exact, Transposed(w.exact, n, k), 17, n, k);
        for (const int64_t rows : {1, 2, 3, 7, 8, 9, 17}) {
          const std::vector<double> part(expected.begin(), expected.begin() + rows * n);
          PaddedMatrix y(rows, n, 2, 3), alone(1, n);
          Tensor y16({rows, n}, DType::kBF16);
          const ConstMatrixView in = x.values.Matrix().Rows(0, rows);
          FewRowsProduct(in, w.values.Matrix(), y.View(), false);
          FewRowsProduct(in, w.values.Matrix(), y16.Matrix(), false);
          FewRowsProduct(in.Rows(rows - 1, 1), w.values.Matrix(), alone.View(), false);
          EXPECT_LE(ErrorOf(y.View(), part), kTolerance) << rows << " x " << n << " x " << k;
          EXPECT_LE(ErrorOf(y16.Matrix(), part), kTolerance + 0x1p-8);
          const std::vector<float> all = y.Dense();
          EXPECT_TRUE(test::SameBits(std::vector<float>(all.end() - n, all.end()), alone.Dense()));
          FewRowsProduct(in, w.values.Matrix(), y.View(), true);
          std::vector<float> twice = all;
          for (float& v : twice) v *= 2;
          EXPECT_TRUE(test::SameBits(y.Dense(), twice));
          EXPECT_TRUE(y.GuardsIntact());
        }
      }
    });
  }
  AllowBF16Instructions(true);
}

TEST(GemmBF16, SameBitsForAnyThreads) {
  const RoundedMatrix w(700, 96, 1), x(530, 96, 2);
  const LinearWeight weight{.f32 = {}, .bf16 = w.values.Matrix()};
  test::ExpectSameBitsForAnyThreads([&] {
    Tensor y({530, 700});
    Linear(x.values.Matrix(), weight, y.Matrix());
    return std::vector<float>(y.F32(), y.F32() + y.size());
  });
}

// Weights of 7 bits: sums of two products fit into 16 bits, which CPUs without the instruction saturate at.
TEST(GemmInt8, IsExact) {
  const int64_t m = 70, n = 45, k = 130;
  Tensor x({m, k}, DType::kU8), w({n, k}, DType::kI8), y({m, n}, DType::kI32);
  auto* xs = static_cast<uint8_t*>(x.data());
  auto* ws = static_cast<int8_t*>(w.data());
  for (int64_t i = 0; i < x.size(); ++i) xs[i] = static_cast<uint8_t>(37 * i + i / 11);
  for (int64_t i = 0; i < w.size(); ++i) ws[i] = static_cast<int8_t>((53 * i + i / 7) % 128 - 64);
  MatMul(x.Matrix(), false, w.Matrix(), true, y.Matrix(), Accumulate::kWrite);
  const auto* ys = static_cast<const int32_t*>(y.data());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += xs[i * k + l] * ws[j * k + l];
      ASSERT_EQ(ys[i * n + j], sum) << "row " << i << ", column " << j;
    }
  }
}

}  // namespace
}  // namespace taipan
