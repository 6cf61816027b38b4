#include "kernels/arg_max.h"

#include <limits>

#include "base/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/arg_max.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

ArgMax FindLargestSimd(const float* x, int64_t n) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = n / (2 * lanes) * 2 * lanes;
  FloatVec even = hn::Set(d, -std::numeric_limits<float>::infinity()), odd = even;
  auto ordered = hn::Eq(even, even);
  for (int64_t i = 0; i < whole; i += 2 * lanes) {
    const FloatVec a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    ordered = hn::And(ordered, hn::And(hn::Eq(a, a), hn::Eq(b, b)));
    even = hn::Max(even, a);
    odd = hn::Max(odd, b);
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, hn::Max(even, odd)));
  bool numbers = hn::AllTrue(d, ordered);
  for (int64_t i = whole; i < n; ++i) {
    numbers &= x[i] == x[i];
    if (x[i] > most) most = x[i];
  }
  if (!numbers) return {0, true};
  const FloatVec wanted = hn::Set(d, most);
  int64_t i = 0;
  while (i < whole && hn::AllFalse(d, hn::Eq(hn::LoadU(d, x + i), wanted))) i += lanes;
  while (x[i] != most) ++i;
  return {i, false};
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(FindLargestSimd);

ArgMax FindLargest(std::span<const float> values) {
  CHECK(!values.empty());
  return HWY_DYNAMIC_DISPATCH(FindLargestSimd)(values.data(), static_cast<int64_t>(values.size()));
}

}  // namespace taipan
#endif  // HWY_ONCE
