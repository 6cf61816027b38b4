#include "kernels/int8_rows.h"

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int8_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace {

// Returns the scale. Magnitudes are compared as integers: those of infinities and NaN are the largest.
template <class T>
float QuantizePart(const T* x, int64_t n, int8_t* to) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const hn::Rebind<int8_t, FloatTag> d8;
  auto top = hn::Zero(di);
  ForVectors(
      d, n, [&](int64_t i, auto part) HWY_ATTR { top = hn::Max(top, hn::BitCast(di, hn::Abs(Load(d, x + i, part)))); });
  const float largest = hn::GetLane(hn::BitCast(d, hn::MaxOfLanes(di, top)));
  if (!std::isfinite(largest) || largest == 0) {
    std::fill_n(to, n, int8_t{0});
    return largest == 0 ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = largest / 127.0f;
  const FloatVec divisor = hn::Set(d, scale);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN int8_t rest[hn::MaxLanes(d)];
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    const auto integers = hn::DemoteTo(d8, hn::NearestInt(hn::Div(Load(d, x + i, part), divisor)));
    if (i + lanes <= n) {
      hn::StoreU(integers, d8, to + i);
    } else {
      hn::StoreU(integers, d8, rest);
      std::copy_n(rest, n - i, to + i);
    }
  });
  return scale;
}

void QuantizeHeadsSimd(ConstMatrixView x, int64_t heads, int8_t* to, float* scales) {
  const int64_t part = x.cols / heads;
  WithElementType(x.dtype, [&](auto t) {
    ParallelForRanges(x.rows, RowGrain(x.cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t h = 0; h < heads; ++h) {
          scales[r * heads + h] = QuantizePart(x.As<decltype(t)>(r) + h * part, part, to + r * x.cols + h * part);
        }
      }
    });
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {
HWY_EXPORT(QuantizeHeadsSimd);

template <class... Args>
void RunQuantizeHeads(const Args&... args) {
  HWY_DYNAMIC_DISPATCH(QuantizeHeadsSimd)(args...);
}
}  // namespace

void QuantizeHeads(ConstMatrixView x, int64_t heads, int8_t* to, float* scales) {
  CHECK_GT(heads, 0);
  CHECK_EQ(x.cols % heads, 0);
  RunQuantizeHeads(x, heads, to, scales);
}

}  // namespace taipan
#endif  // HWY_ONCE
