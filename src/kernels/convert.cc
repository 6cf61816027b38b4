#include "kernels/convert.h"

#include <algorithm>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/convert.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

template <class From, class To>
void ConvertRun(const From* from, int64_t n, To* to) {
  const FloatTag d;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR { Store(Load(d, from + i, part), d, to + i, part); });
}

template <class From, class To>
void ConvertRows(ConstMatrixView from, MatrixView to) {
  for (int64_t r = 0; r < from.rows; ++r) ConvertRun(from.As<From>(r), from.cols, to.As<To>(r));
}

void ConvertSimd(ConstMatrixView from, MatrixView to) {
  if (from.dtype == to.dtype) {
    CopyMatrix(from, to);
  } else if (from.dtype == DType::kF32) {
    ConvertRows<float, BF16>(from, to);
  } else {
    ConvertRows<BF16, float>(from, to);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(ConvertSimd);

constexpr int64_t kTaskElements = int64_t{1} << 16;  // some ten microseconds: fewer elements start no threads

}  // namespace

void Convert(ConstMatrixView from, MatrixView to) {
  CHECK_EQ(from.rows, to.rows);
  CHECK_EQ(from.cols, to.cols);
  if (from.rows > 0 && from.stride == from.cols && to.stride == to.cols) {  // one long row, whatever the shape
    const int64_t n = from.rows * from.cols;
    from = {from.data, from.dtype, 1, n, n};
    to = {to.data, to.dtype, 1, n, n};
  }
  const int64_t cols = std::min(from.cols, kTaskElements);
  if (cols == 0) return;
  const int64_t rows = kTaskElements / cols, col_tasks = (from.cols + cols - 1) / cols;
  ParallelFor((from.rows + rows - 1) / rows * col_tasks, [&](int64_t task) {
    const int64_t r = task / col_tasks * rows, c = task % col_tasks * cols;
    const int64_t height = std::min(rows, from.rows - r), width = std::min(cols, from.cols - c);
    HWY_DYNAMIC_DISPATCH(ConvertSimd)(from.Rows(r, height).Cols(c, width), to.Rows(r, height).Cols(c, width));
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
