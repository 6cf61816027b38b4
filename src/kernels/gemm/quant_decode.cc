// Rows of a quantized matrix as numbers, for products of many rows. Compiled without contraction of a * b + c, so that
// values are those of Dequantize to the bit.

#include <algorithm>
#include <cstring>

#include "kernels/gemm/quant_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/quant_decode.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/gemm/quant_unpack-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// to[i] = (codes[i] - bias) scale + offset over 16 columns.
template <class T>
HWY_INLINE void DecodeHalf(const uint8_t* codes, float bias, float scale, float offset, bool with_offset, T* to) {
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<int32_t, decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < 16; i += lanes) {
    const auto code = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + i)));
    auto value = hn::Mul(hn::Sub(code, hn::Set(d, bias)), hn::Set(d, scale));
    if (with_offset) value = hn::Add(value, hn::Set(d, offset));
    StoreFloats(value, d, to + i);
  }
}

// Rows [begin, end) of a group into those of `to`.
template <class T>
void DecodeGroup(const QuantMatrixView& m, int64_t group, int64_t begin, int64_t end, MatrixView to) {
  const QuantFormat& f = QuantFormatOf(m.type);
  const QuantGroup g = m.Group(group);
  const bool halves = f.type == GgmlType::kQ6_K, with_offset = !halves && f.head > 2;
  const float sign = f.elements == 256 ? -1.0f : 1.0f, bias = static_cast<float>(f.bias);
  alignas(64) uint8_t w[512];
  QuantScales scales;
  for (int64_t run = 0; run < m.cols / kQuantRun; ++run) {
    LoadCodes(f, g.high + run * f.high, g.low + run * f.low, w);
    LoadScales(f, g.head, run, scales);
    for (int64_t r = begin; r < end; ++r) {
      uint8_t codes[kQuantRun];
      for (int c = 0; c < 8; ++c) std::memcpy(codes + 4 * c, w + 64 * c + 4 * r, 4);
      T* out = to.As<T>(r - begin) + run * kQuantRun;
      const float first = scales.first[r], second = halves ? scales.second[r] : first;
      const float offset = with_offset ? sign * scales.second[r] : 0.0f;
      DecodeHalf(codes, bias, first, offset, with_offset, out);
      DecodeHalf(codes + 16, bias, second, offset, with_offset, out + 16);
    }
  }
}

void DecodeGroupF32(const QuantMatrixView& m, int64_t group, int64_t begin, int64_t end, MatrixView to) {
  DecodeGroup<float>(m, group, begin, end, to);
}
void DecodeGroupBF16(const QuantMatrixView& m, int64_t group, int64_t begin, int64_t end, MatrixView to) {
  DecodeGroup<BF16>(m, group, begin, end, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(DecodeGroupF32);
HWY_EXPORT(DecodeGroupBF16);

void DecodeRows(const QuantMatrixView& w, int64_t first, int64_t count, MatrixView to) {
  CHECK(to.rows == count && to.cols == w.cols && first >= 0 && first + count <= w.rows);
  const bool narrow = to.dtype == DType::kBF16;
  for (int64_t row = first; row < first + count;) {
    const int64_t group = row / kQuantRows, begin = row % kQuantRows;
    const int64_t end = std::min(kQuantRows, begin + first + count - row);
    const MatrixView rows = to.Rows(row - first, end - begin);
    if (narrow) {
      HWY_DYNAMIC_DISPATCH(DecodeGroupBF16)(w, group, begin, end, rows);
    } else {
      HWY_DYNAMIC_DISPATCH(DecodeGroupF32)(w, group, begin, end, rows);
    }
    row += end - begin;
  }
}

}  // namespace taipan
#endif  // HWY_ONCE
