#include "cli/bench/bench_memory.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cli/bench/bench_memory.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Four runs side by side, as kernels with several operands read: a core gets more from memory by several streams than
// by one.
uint32_t Read(const float* data, int64_t n) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), quarter = n / 4;
  const auto* bits = reinterpret_cast<const uint32_t*>(data);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < quarter; i += lanes) {
    s0 = hn::Add(s0, hn::LoadU(d, bits + i));
    s1 = hn::Add(s1, hn::LoadU(d, bits + quarter + i));
    s2 = hn::Add(s2, hn::LoadU(d, bits + 2 * quarter + i));
    s3 = hn::Add(s3, hn::LoadU(d, bits + 3 * quarter + i));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

void Write(float* data, int64_t n, float value) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto v = hn::Set(d, value);
  for (int64_t i = 0; i < n; i += lanes) hn::StoreU(v, d, data + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(Read);
HWY_EXPORT(Write);

uint32_t SweepRead(const float* data, int64_t n) { return HWY_DYNAMIC_DISPATCH(Read)(data, n); }
void SweepWrite(float* data, int64_t n, float value) { HWY_DYNAMIC_DISPATCH(Write)(data, n, value); }

}  // namespace taipan
#endif
