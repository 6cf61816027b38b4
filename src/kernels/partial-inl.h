// Loads and stores of the first lanes of a vector, for the end of a row, that touch no byte beyond it on any target
// (MaskedLoad does where the target has no masks). Include within a foreach_target file (hence no ordinary include
// guard).
#if defined(TAIPAN_PARTIAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_PARTIAL_INL_H_
#undef TAIPAN_PARTIAL_INL_H_
#else
#define TAIPAN_PARTIAL_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// p[0, n) in the first n lanes, `fill` in the others. n <= Lanes(d).
template <class D>
HWY_INLINE hn::Vec<D> LoadPartial(D d, const float* p, int64_t n, float fill) {
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(hn::Set(d, fill), d, lanes);
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return hn::Load(d, lanes);
}

template <class D>
HWY_INLINE void StorePartial(hn::Vec<D> v, D d, float* p, int64_t n) {
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif
