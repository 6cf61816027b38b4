#include "kernels/gemm/tile_bf16.h"

#include <gtest/gtest.h>

#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::RandomVector;

std::vector<BF16> RandomBF16(int64_t n, uint64_t seed) {
  std::vector<BF16> out;
  for (const float x : RandomVector<float>(n, seed)) out.push_back(ToBF16(x));
  return out;
}

// With AMX and with other bf16 instructions where the machine has them, then without, on every SIMD target.
template <class F>
void ForEachImplementation(F&& fn) {
  test::ForEachSimdTarget([&] {
    for (const auto& [bf16, amx] : {std::pair{true, true}, {true, false}, {false, false}}) {
      AllowBF16Instructions(bf16);
      AllowAmxInstructions(amx);
      SCOPED_TRACE(UsesAmxInstructions() ? "AMX" : UsesBF16Instructions() ? "bf16 instructions" : "floats");
      fn();
    }
    AllowBF16Instructions(true);
    AllowAmxInstructions(true);
  });
}

std::vector<TileShape> Shapes() {
  return {{1, 1, 2},    {3, 15, 4},   {7, 16, 6},   {8, 17, 64},     {9, 33, 10},  {13, 64, 66}, {17, 50, 30},
          {64, 64, 64}, {65, 81, 62}, {12, 97, 64}, {130, 128, 128}, {5, 70, 200}, {3, 18, 600}};
}

TEST(TileBF16, ProductsAgreeWithDouble) {
  ForEachImplementation([] {
    for (const TileShape& s : Shapes()) {
      const int64_t lda = s.k + 3, ldb = s.n + 5;  // odd strides: pairs need no alignment
      const std::vector<BF16> a = RandomBF16(s.m * lda, 1), b = RandomBF16(s.k * s.n, 2);
      std::vector<uint32_t> packed(static_cast<size_t>(s.k / 2 * ldb));
      PackPairs(s.k, s.n, b.data(), s.n, packed.data(), ldb);
      // The same A as the transpose of a packed matrix [k, m].
      std::vector<uint32_t> packed_a(static_cast<size_t>(s.k / 2 * s.m));
      PackPairsTransposed(s.k, s.m, a.data(), lda, packed_a.data(), s.m);
      for (const bool transposed : {false, true}) {
        const TilePairs pairs = transposed ? PairsOfPackedTransposed(packed_a.data(), s.m) : PairsOfRows(a.data(), lda);
        for (const bool accumulate : {false, true}) {
          test::PaddedMatrix c(s.m, s.n, 3, 1);
          c.FillRandom(3);
          const std::vector<float> before = c.Dense();
          TileGemmBF16(s, pairs, {packed.data(), ldb}, {c.View().F32(), s.n + 3, accumulate});
          const std::vector<float> after = c.Dense();
          for (int64_t i = 0; i < s.m; ++i) {
            for (int64_t j = 0; j < s.n; ++j) {
              const size_t at = static_cast<size_t>(i * s.n + j);
              double sum = accumulate ? before[at] : 0, size = std::abs(sum);
              for (int64_t p = 0; p < s.k; ++p) {
                const double term = static_cast<double>(ToFloat(a[static_cast<size_t>(i * lda + p)])) *
                                    ToFloat(b[static_cast<size_t>(p * s.n + j)]);
                sum += term;
                size += std::abs(term);
              }
              // Products of two bf16 are exact in f32; k + 1 additions round by 2^-24 of the partial sums each.
              ASSERT_NEAR(after[at], sum, static_cast<double>(s.k + 2) * test::kFloatEps / 2 * size)
                  << s.m << " x " << s.n << " x " << s.k << " at " << i << ", " << j;
            }
          }
          ASSERT_TRUE(c.GuardsIntact());
        }
      }
    }
  });
}

// A row or a column of C alone has the bits that it has in the whole.
TEST(TileBF16, BitsOfAnElementDoNotDependOnTheTile) {
  ForEachImplementation([] {
    const int64_t m = 29, n = 83, k = 70;
    const std::vector<BF16> a = RandomBF16(m * k, 4), b = RandomBF16(k * n, 5);
    std::vector<uint32_t> packed(static_cast<size_t>(k / 2 * n));
    PackPairs(k, n, b.data(), n, packed.data(), n);
    std::vector<float> whole(static_cast<size_t>(m * n)), part(static_cast<size_t>(m * n));
    TileGemmBF16({m, n, k}, PairsOfRows(a.data(), k), {packed.data(), n}, {whole.data(), n});
    for (const TileShape& cut : {TileShape{1, 1, 0}, TileShape{8, 16, 0}, TileShape{5, 33, 0}}) {
      for (int64_t i = 0; i < m; i += cut.m) {
        for (int64_t j = 0; j < n; j += cut.n) {
          TileGemmBF16({std::min(cut.m, m - i), std::min(cut.n, n - j), k}, PairsOfRows(a.data() + i * k, k),
                       {packed.data() + j, n}, {part.data() + i * n + j, n});
        }
      }
      EXPECT_TRUE(test::SameBits(whole, part)) << cut.m << " x " << cut.n;
    }
  });
}

template <class T>
void CheckPacking(const std::vector<T>& from, int64_t k, int64_t n, int64_t ld, bool transposed) {
  const int64_t ld_to = n + 1, rows = (k + 1) / 2;
  std::vector<uint32_t> to(static_cast<size_t>(rows * ld_to), 7u);
  if (transposed) {
    PackPairsTransposed(k, n, from.data(), ld, to.data(), ld_to);
  } else {
    PackPairs(k, n, from.data(), ld, to.data(), ld_to);
  }
  const auto bits = [&](int64_t row, int64_t column) -> uint32_t {
    if (row >= k) return 0;
    return ToBF16(ToFloat(from[static_cast<size_t>(transposed ? column * ld + row : row * ld + column)])).bits;
  };
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t j = 0; j < n; ++j) {
      ASSERT_EQ(to[static_cast<size_t>(p * ld_to + j)], bits(2 * p, j) | bits(2 * p + 1, j) << 16)
          << k << " x " << n << (transposed ? " transposed" : "") << " at " << p << ", " << j;
    }
    ASSERT_EQ(to[static_cast<size_t>(p * ld_to + n)], 7u);
  }
}

TEST(TileBF16, PackingIsExact) {
  ForEachImplementation([] {
    for (const int64_t k : {1, 2, 7, 8, 9, 64, 71}) {
      for (const int64_t n : {1, 3, 4, 16, 19, 64}) {
        for (const bool transposed : {false, true}) {
          const int64_t ld = (transposed ? k : n) + 1, size = (transposed ? n : k) * ld;
          CheckPacking(RandomVector<float>(size, 6), k, n, ld, transposed);
          CheckPacking(RandomBF16(size, 7), k, n, ld, transposed);
        }
      }
    }
  });
}

TEST(TileBF16, LowerTargetsRunNoBF16Instructions) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const test::ForcedSimdTarget forced(target);
    EXPECT_TRUE(target <= HWY_AVX3 || !UsesBF16Instructions()) << hwy::TargetName(target);
    AllowBF16Instructions(false);
    EXPECT_FALSE(UsesBF16Instructions()) << hwy::TargetName(target);
    AllowBF16Instructions(true);
  }
}

}  // namespace
}  // namespace taipan
