#include "kernels/gemm/gemm_rows.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/bf16_instructions.h"
#include "kernels/gemm/gemm_rows_avx512.h"
#include "kernels/gemm/read_ahead.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/gemm_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// Neighbours of a vector of bf16 as floats, those at even places and those at odd ones.
struct Halves {
  FloatVec even, odd;
};
HWY_INLINE Halves LoadHalves(const BF16* p) {
  const FloatTag d;
  const hn::Repartition<uint32_t, FloatTag> d32;
  const auto both = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(p));
  return {hn::BitCast(d, hn::ShiftLeft<16>(both)), hn::BitCast(d, hn::And(both, hn::Set(d32, 0xffff0000u)))};
}

// sums[r * n] = x_r . w for kRows rows of x. Two chains a row, so that additions overlap.
template <int kRows>
HWY_INLINE void Dots(const ConstMatrixView& x, int64_t row, const BF16* w, int64_t n, float* sums) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), k = x.cols, stride = x.stride;
  const BF16* rows = x.As<BF16>(row);
  FloatVec even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= k; i += 2 * lanes) {
    AskBehindBlocks(reinterpret_cast<const uint8_t*>(w + i), 2 * lanes * static_cast<int64_t>(sizeof(BF16)));
    const Halves a = LoadHalves(w + i);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Halves b = LoadHalves(rows + r * stride + i);
      even[r] = hn::MulAdd(a.even, b.even, even[r]);
      odd[r] = hn::MulAdd(a.odd, b.odd, odd[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float sum = SumLanes(d, hn::Add(even[r], odd[r]));
    for (int64_t j = i; j < k; ++j) sum += ToFloat(rows[r * stride + j]) * ToFloat(w[j]);
    sums[r * n] = sum;
  }
}

// sums [T, N] = x[T, K] w[N, K]^T.
void FewRowsSums(ConstMatrixView x, ConstMatrixView w, float* sums) {
  const int64_t n = w.rows;
  for (int64_t i = 0; i < n; ++i) {
    const BF16* row = w.As<BF16>(i);
    int64_t r = 0;
    for (; r + 4 <= x.rows; r += 4) Dots<4>(x, r, row, n, sums + r * n + i);
    for (; r + 2 <= x.rows; r += 2) Dots<2>(x, r, row, n, sums + r * n + i);
    for (; r < x.rows; ++r) Dots<1>(x, r, row, n, sums + r * n + i);
  }
}

// y = or += sums.
void StoreSums(const float* sums, bool add, MatrixView y) {
  const FloatTag d;
  for (int64_t r = 0; r < y.rows; ++r, sums += y.cols) {
    ForVectors(d, y.cols, [&](int64_t i, auto part) HWY_ATTR {
      const auto sum = Load(d, sums + i, part);
      if (y.dtype == DType::kBF16) {
        Store(sum, d, y.As<BF16>(r) + i, part);
      } else {
        float* const to = y.F32(r) + i;
        Store(add ? hn::Add(Load(d, to, part), sum) : sum, d, to, part);
      }
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(FewRowsSums);
HWY_EXPORT(StoreSums);

void FewRowsProduct(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool add) {
  CHECK_EQ(x.rows, y.rows);
  CHECK(!add || y.dtype == DType::kF32);
  const auto product = bf16_instructions ? FewRowsSumsAvx512BF16 : HWY_DYNAMIC_DISPATCH(FewRowsSums);
  constexpr int64_t kMost = 512;
  // A task reads 128 KiB of the weight: some ten microseconds.
  const int64_t grain = std::clamp<int64_t>(65536 / std::max<int64_t>(1, x.cols), 1, kMost);
  ParallelForRanges(w.rows, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kFewRows * kMost];
    for (int64_t r = 0; r < x.rows; r += kFewRows) {
      const int64_t count = std::min(kFewRows, x.rows - r);
      product(x.Rows(r, count), w.Rows(begin, end - begin), sums);
      HWY_DYNAMIC_DISPATCH(StoreSums)(sums, add, y.Rows(r, count).Cols(begin, end - begin));
    }
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
