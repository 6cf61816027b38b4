#include "kernels/exponentials.h"

#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/exponentials.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void ExponentialsSimd(const float* x, int64_t n, float largest, double temperature, double* to) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto most = hn::Set(d, static_cast<double>(largest)), divisor = hn::Set(d, temperature);
  for (; i + static_cast<int64_t>(hn::Lanes(d)) <= n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto wide = hn::PromoteTo(d, hn::LoadU(df, x + i));
    hn::StoreU(hn::Exp(d, hn::Div(hn::Sub(wide, most), divisor)), d, to + i);
  }
#endif
  for (; i < n; ++i) to[i] = std::exp((static_cast<double>(x[i]) - static_cast<double>(largest)) / temperature);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

HWY_EXPORT(ExponentialsSimd);

void Exponentials(std::span<const float> x, float largest, double temperature, double* to) {
  HWY_DYNAMIC_DISPATCH(ExponentialsSimd)(x.data(), static_cast<int64_t>(x.size()), largest, temperature, to);
}

}  // namespace taipan
#endif  // HWY_ONCE
