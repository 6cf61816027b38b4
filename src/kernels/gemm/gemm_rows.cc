#include "kernels/gemm/gemm_rows.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "kernels/gemm/read_ahead.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/gemm_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

constexpr int64_t kAhead = 4096;  // elements: what is asked of memory meanwhile

// out[r] = x_r . w for kRows rows of x, `stride` floats apart. Two chains a row, so that additions overlap.
template <int kRows>
HWY_INLINE void Dots(const float* x, int64_t stride, const BF16* w, int64_t k, float* out) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVec even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= k; i += 2 * lanes) {
    AskForLine(w + i + kAhead);
    const FloatVec a = LoadFloats(d, w + i), b = LoadFloats(d, w + i + lanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      even[r] = hn::MulAdd(a, hn::LoadU(d, x + r * stride + i), even[r]);
      odd[r] = hn::MulAdd(b, hn::LoadU(d, x + r * stride + i + lanes), odd[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float sum = SumLanes(d, hn::Add(even[r], odd[r]));
    for (int64_t j = i; j < k; ++j) sum += x[r * stride + j] * ToFloat(w[j]);
    out[r] = sum;
  }
}

// Columns [begin, end) of y. x [T, K] as floats.
void FewRowsRange(const float* x, ConstMatrixView w, int64_t begin, int64_t end, MatrixView y, bool add) {
  const int64_t rows = y.rows;
  const auto store = [&](int64_t r, int64_t n, const float* out, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      if (y.dtype == DType::kBF16) {
        y.As<BF16>(r + i)[n] = ToBF16(out[i]);
      } else {
        float& to = y.F32(r + i)[n];
        to = add ? to + out[i] : out[i];
      }
    }
  };
  for (int64_t n = begin; n < end; ++n) {
    const BF16* row = w.As<BF16>(n);
    float out[4];
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) Dots<4>(x + r * w.cols, w.cols, row, w.cols, out), store(r, n, out, 4);
    for (; r + 2 <= rows; r += 2) Dots<2>(x + r * w.cols, w.cols, row, w.cols, out), store(r, n, out, 2);
    for (; r < rows; ++r) Dots<1>(x + r * w.cols, w.cols, row, w.cols, out), store(r, n, out, 1);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(FewRowsRange);

void FewRowsProduct(ConstMatrixView x, ConstMatrixView w, MatrixView y, bool add) {
  CHECK_EQ(x.rows, y.rows);
  CHECK(!add || y.dtype == DType::kF32);
  thread_local std::vector<float> wide;
  wide.resize(static_cast<size_t>(x.rows * x.cols));
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) wide[static_cast<size_t>(r * x.cols + c)] = ToFloat(x.As<BF16>(r)[c]);
  }
  const float* rows = wide.data();
  // A task reads 128 KiB of the weight: some ten microseconds.
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, x.cols));
  ParallelForRanges(w.rows, grain, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(FewRowsRange)(rows, w, begin, end, y, add);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
