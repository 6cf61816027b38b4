#include "kernels/muon.h"

#include <atomic>
#include <bit>
#include <chrono>
#include <thread>

#include "kernels/muon_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using reference::Matrix;

// Rows made orthonormal one after the other (m <= n).
Matrix OrthonormalRows(int64_t m, int64_t n, uint64_t seed) {
  Matrix q = test::RandomVector<double>(m * n, seed);
  for (int64_t i = 0; i < m; ++i) {
    double* const row = &q[static_cast<size_t>(i * n)];
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t p = 0; p < i; ++p) {
        const double* const before = &q[static_cast<size_t>(p * n)];
        double dot = 0;
        for (int64_t j = 0; j < n; ++j) dot += row[j] * before[j];
        for (int64_t j = 0; j < n; ++j) row[j] -= dot * before[j];
      }
    }
    double norm = 0;
    for (int64_t j = 0; j < n; ++j) norm += row[j] * row[j];
    for (int64_t j = 0; j < n; ++j) row[j] /= std::sqrt(norm);
  }
  return q;
}

// U diag(s) V^T [m, n] with m = s.size() <= n, and its singular vectors as rows.
struct Decomposed {
  Matrix u, v, product;
};
Decomposed WithSingularValues(const std::vector<double>& s, int64_t n) {
  const int64_t m = static_cast<int64_t>(s.size());
  Decomposed d{OrthonormalRows(m, m, 1), OrthonormalRows(m, n, 2), {}};
  Matrix scaled = reference::Transposed(d.u, m, m);
  for (int64_t i = 0; i < m * m; ++i) scaled[static_cast<size_t>(i)] *= s[static_cast<size_t>(i % m)];
  d.product = reference::Product(scaled, d.v, m, m, n);
  return d;
}

std::vector<float> Orthogonalised(const Matrix& x, int64_t m, int64_t n, DType dtype) {
  test::PaddedMatrix in(m, n, 0, 0, dtype);
  in.Fill(test::ConvertTo<float>(x));
  Arena scratch;
  const MatrixView o = Orthogonalise(in.View(), scratch);
  test::PaddedMatrix out(m, n, 0, 0, dtype);
  CopyMatrix(o, out.View());
  EXPECT_TRUE(in.GuardsIntact());
  return out.Dense();
}

// A step rounds X, its Gram matrix and the polynomial once each: by a share e of their largest singular value, so by up
// to 7.4 e of what the smallest ones become in the first step, and the second one multiplies that by up to 2.9.
// Roundings of different elements are independent, which leaves room for the sums in f32.
double Tolerance(DType dtype) { return 30 * (dtype == DType::kBF16 ? 0x1p-9 : 0x1p-24 * 8); }

TEST(Orthogonalise, MatchesTheReferenceInDouble) {
  test::ForEachSimdTarget([] {
    for (const auto& [m, n] : {std::pair{1, 1},
                               {1, 7},
                               {9, 1},
                               {5, 3},
                               {16, 16},
                               {10, 64},
                               {33, 97},
                               {97, 33},
                               {64, 64},
                               {130, 210},
                               {210, 130}}) {
      Matrix x = test::RandomVector<double>(m * n, 3);
      const double norm = reference::FrobeniusNorm(x);
      for (double& value : x) value /= norm;
      const Matrix expected = reference::Orthogonalise(x, m, n);
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        EXPECT_LT(test::RelativeFrobeniusError(Orthogonalised(x, m, n, dtype), expected), Tolerance(dtype))
            << m << " x " << n << " " << NameOf(dtype);
      }
    }
  });
}

// Singular values from 0.03 to 1 of the largest end between 0.62 and 1.38 where few are as large as it, singular
// vectors stay.
TEST(Orthogonalise, BringsSingularValuesIntoTheBand) {
  const std::vector<double> values = {0.9, 0.3, 0.2, 0.1, 0.1, 0.08, 0.05, 0.04, 0.03};
  const int64_t m = static_cast<int64_t>(values.size()), n = 24;
  const Decomposed d = WithSingularValues(values, n);
  for (const bool wide : {true, false}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Matrix x = wide ? d.product : reference::Transposed(d.product, m, n);
      Matrix o = test::ConvertTo<double>(Orthogonalised(x, wide ? m : n, wide ? n : m, dtype));
      if (!wide) o = reference::Transposed(o, n, m);
      // U^T O V: the new singular values on the diagonal.
      const Matrix s =
          reference::Product(reference::Product(d.u, o, m, m, n), reference::Transposed(d.v, m, n), m, n, m);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < m; ++j) {
          const double value = s[static_cast<size_t>(i * m + j)];
          EXPECT_GT(value, i == j ? 0.62 - Tolerance(dtype) : -Tolerance(dtype)) << i << " " << j;
          EXPECT_LT(value, i == j ? 1.38 + Tolerance(dtype) : Tolerance(dtype)) << i << " " << j;
        }
      }
    }
  }
}

struct Arrays {
  Arrays(int64_t m, int64_t n)
      : param(m, n), gradient(m, n), momentum(m, n), bf16(m, n, 0, 0, DType::kBF16), rows(m), cols(n) {
    param.FillRandom(1);
  }
  test::PaddedMatrix param, gradient, momentum, bf16;
  int64_t rows, cols;
  MuonMatrix Views(bool copy = true) {
    return {param.View(), gradient.View(), momentum.View(), copy ? bf16.View() : MatrixView()};
  }
  bool GuardsIntact() const {
    return param.GuardsIntact() && gradient.GuardsIntact() && momentum.GuardsIntact() && bf16.GuardsIntact();
  }
};

TEST(Muon, MatchesTheReferenceOverSteps) {
  const MuonSettings settings = {.lr = 0.02, .weight_decay = 0.1, .gradient_scale = 0.37f};
  constexpr int kSteps = 4;
  test::ForEachSimdTarget([&] {
    for (const auto& [m, n] : {std::pair{3, 5}, {17, 17}, {40, 24}, {24, 70}}) {
      Arrays arrays(m, n);
      Matrix param = arrays.param.DenseDouble(), momentum(param.size());
      std::vector<Arena> scratch;
      for (uint64_t step = 1; step <= kSteps; ++step) {
        arrays.gradient.FillRandom(100 + step, 0.3);
        reference::Muon(param, arrays.gradient.DenseDouble(), momentum, m, n, settings);
        const MuonMatrix views = arrays.Views();
        Muon({&views, 1}, settings, scratch);
        EXPECT_EQ(test::MaxAbs(arrays.gradient.Dense()), 0);
      }
      EXPECT_LT(test::RelativeFrobeniusError(arrays.momentum.Dense(), momentum), 1e-6);
      // A step's update has the norm 0.02 * 0.2 sqrt(max) * sqrt(min) and the error of its direction.
      const double update = 0.02 * 0.2 * std::sqrt(m * n);
      EXPECT_LT(test::RelativeFrobeniusError(arrays.param.Dense(), param) * reference::FrobeniusNorm(param),
                kSteps * update * Tolerance(MuonProductType()) + 1e-6 * reference::FrobeniusNorm(param))
          << m << " x " << n;
      EXPECT_TRUE(test::SameBits(arrays.bf16.Dense(), test::Stored(arrays.param.Dense(), DType::kBF16)));
      EXPECT_TRUE(arrays.GuardsIntact());
    }
  });
}

TEST(Muon, AMomentumInBF16IsThatInF32Rounded) {
  constexpr int64_t kRows = 9, kCols = 31;
  test::ForEachSimdTarget([&] {
    Arrays plain(kRows, kCols), rounded(kRows, kCols);
    test::PaddedMatrix momentum(kRows, kCols, 0, 0, DType::kBF16);
    momentum.FillRandom(5);
    plain.momentum.Fill(momentum.Dense());
    for (Arrays* arrays : {&plain, &rounded}) arrays->gradient.FillRandom(6);
    std::vector<Arena> scratch;
    const MuonMatrix views = plain.Views();
    MuonMatrix half = rounded.Views();
    half.momentum = momentum.View();
    half.rounding = {.key = {.seed = 3, .stream = kTestStream}, .first = 128};
    Muon({&views, 1}, {.lr = 0.1}, scratch);
    Muon({&half, 1}, {.lr = 0.1}, scratch);
    EXPECT_TRUE(test::SameBits(rounded.param.Dense(), plain.param.Dense()));
    std::vector<float> expected = plain.momentum.Dense();
    for (size_t i = 0; i < expected.size(); ++i) {
      const uint64_t place = 128 + i;
      const uint32_t draw = RandomBits(half.rounding.key, place / 64 * 16 + place % 16)[place % 64 / 16];
      expected[i] = std::bit_cast<float>((std::bit_cast<uint32_t>(expected[i]) + (draw & 0xffff)) & 0xffff0000u);
    }
    EXPECT_TRUE(test::SameBits(momentum.Dense(), expected));
    EXPECT_TRUE(momentum.GuardsIntact());
  });
}

TEST(Muon, TheUpdateHasTheSizeOfAdamWs) {
  for (const auto& [m, n] : {std::pair{8, 64}, {64, 8}, {1, 50}, {32, 32}}) {
    Arrays arrays(m, n);
    const std::vector<float> before = arrays.param.Dense();
    arrays.gradient.FillRandom(2, 1e-6);
    std::vector<Arena> scratch;
    const MuonMatrix views = arrays.Views(/*copy=*/false);
    Muon({&views, 1}, {.lr = 0.1}, scratch);
    const double rms = test::RelativeFrobeniusError(arrays.param.Dense(), before) *
                       reference::FrobeniusNorm(test::ConvertTo<double>(before)) / std::sqrt(m * n);
    EXPECT_GT(rms, 0.1 * 0.2 * 0.62) << m << " x " << n;
    EXPECT_LT(rms, 0.1 * 0.2 * 1.38) << m << " x " << n;
  }
}

TEST(Muon, WithoutAGradientItOnlyDecays) {
  Arrays arrays(12, 20);
  const std::vector<float> before = arrays.param.Dense();
  std::vector<Arena> scratch;
  const MuonMatrix views = arrays.Views();
  Muon({&views, 1}, {.lr = 0.5, .weight_decay = 0.25}, scratch);
  const std::vector<float> after = arrays.param.Dense();
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(after[i], before[i] - 0.125f * before[i]);
}

// Returns when all threads are in the parallel loop: they see the next one at once and take their share of it, where
// the caller would have done a short one before they wake up.
void WakeThreads() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  std::atomic<int> awake = 0;
  ParallelFor(NumThreads(), [&](int64_t) {
    ++awake;
    while (awake < NumThreads() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
}

TEST(Muon, ThreadsDoNotChangeTheBits) {
  std::vector<Arrays> fresh;
  for (const auto& [m, n] : {std::pair{128, 192}, {192, 128}, {160, 160}, {96, 256}, {70, 40}, {3, 40}, {33, 31}}) {
    fresh.emplace_back(m, n);
    fresh.back().gradient.FillRandom(7);
  }
  test::ExpectSameBitsForAnyThreads([&] {
    std::vector<Arrays> all = fresh;
    std::vector<MuonMatrix> views;
    for (Arrays& arrays : all) views.push_back(arrays.Views());
    std::vector<Arena> scratch;
    for (int step = 0; step < 5; ++step) {  // from the second one on along the momentum alone
      WakeThreads();
      Muon(views, {.lr = 0.1, .weight_decay = 0.1}, scratch);
    }
    std::vector<float> result;
    for (const Arrays& arrays : all) {
      for (const test::PaddedMatrix* matrix : {&arrays.param, &arrays.momentum, &arrays.bf16}) {
        const std::vector<float> values = matrix->Dense();
        result.insert(result.end(), values.begin(), values.end());
      }
    }
    return result;
  });
}

}  // namespace
}  // namespace taipan
