#include "kernels/adamw.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/rounding-inl.h"
#include "kernels/simd-inl.h"

#ifndef TAIPAN_ADAMW_COEFFICIENTS_
#define TAIPAN_ADAMW_COEFFICIENTS_
namespace taipan {
namespace {

// p <- p - (decay * p + rate * m / (root * sqrt(v) + eps)), with m and v moved towards g and g^2 by their shares.
struct AdamWCoefficients {
  float gradient_scale;
  float m_share, v_share;  // 1 - beta, rounded once: beta itself rounded would change 1 - beta by more
  float decay;             // lr * weight_decay
  float rate;              // lr / (1 - beta1^t)
  float root;              // 1 / sqrt(1 - beta2^t)
  float eps;
};

}  // namespace
}  // namespace taipan
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

HWY_INLINE FloatVec AdamWVector(const AdamWCoefficients& c, FloatVec p, FloatVec g, FloatVec& m, FloatVec& v) {
  const FloatTag d;
  g = hn::Mul(g, hn::Set(d, c.gradient_scale));
  m = hn::MulAdd(hn::Set(d, c.m_share), hn::Sub(g, m), m);
  v = hn::MulAdd(hn::Set(d, c.v_share), hn::Sub(hn::Mul(g, g), v), v);
  const FloatVec denominator = hn::MulAdd(hn::Sqrt(v), hn::Set(d, c.root), hn::Set(d, c.eps));
  const FloatVec update = hn::Div(hn::Mul(hn::Set(d, c.rate), m), denominator);
  // One rounding at the size of p for decay and update together.
  return hn::Sub(p, hn::MulAdd(hn::Set(d, c.decay), p, update));
}

template <bool kBF16, bool kClear>
void UpdateBlock(const AdamWCoefficients& c, AdamWElements b, AdamWAlso also) {
  const FloatTag d;
  ForVectors(d, b.n, [&](int64_t i, auto part) HWY_ATTR {
    FloatVec m = Load(d, b.m + i, part), v = Load(d, b.v + i, part);
    const FloatVec p = AdamWVector(c, Load(d, b.param + i, part), Load(d, b.gradient + i, part), m, v);
    Store(p, d, b.param + i, part);
    Store(m, d, b.m + i, part);
    Store(v, d, b.v + i, part);
    if constexpr (kBF16) Store(p, d, also.bf16 + i, part);
    if constexpr (kClear) Store(hn::Zero(d), d, also.clear + i, part);
  });
}

void AdamWSimd(const AdamWCoefficients& c, const AdamWElements& b, const AdamWAlso& also) {
  const bool bf16 = also.bf16 != nullptr, clear = also.clear != nullptr;
  const auto update = bf16 ? (clear ? UpdateBlock<true, true> : UpdateBlock<true, false>)
                           : (clear ? UpdateBlock<false, true> : UpdateBlock<false, false>);
  update(c, b, also);
}

void AdamWRoundedSimd(const AdamWCoefficients& c, const AdamWElementsOf<BF16>& b, const AdamWAlso& also,
                      const Rounding& rounding) {
  const FloatTag d;
  ForGroups(rounding, b.n, [&](int64_t begin, int64_t count, const uint32_t* bits) HWY_ATTR {
    ForVectors(d, count, [&](int64_t k, auto part) HWY_ATTR {
      const int64_t i = begin + k;
      FloatVec m = Load(d, b.m + i, part), v = Load(d, b.v + i, part);
      const FloatVec p = AdamWVector(c, Load(d, b.param + i, part), Load(d, b.gradient + i, part), m, v);
      Store(p, d, b.param + i, part);
      StoreRounded<0>(m, d, bits + k, b.m + i, part);
      StoreRounded<16>(v, d, bits + k, b.v + i, part);
      if (also.bf16 != nullptr) Store(p, d, also.bf16 + i, part);
      if (also.clear != nullptr) Store(hn::Zero(d), d, also.clear + i, part);
    });
  });
}

double SquaredNormBlock(const float* x, int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto even = hn::Zero(d), odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::PromoteTo(d, hn::LoadU(df, x + i)), b = hn::PromoteTo(d, hn::LoadU(df, x + i + lanes));
    even = hn::MulAdd(a, a, even);
    odd = hn::MulAdd(b, b, odd);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(AdamWSimd);
HWY_EXPORT(AdamWRoundedSimd);
HWY_EXPORT(SquaredNormBlock);

constexpr int64_t kBlock = 16384;  // elements of a task: 64 KiB an array
static_assert(kBlock % Rounding::kGroup == 0);

AdamWCoefficients CoefficientsOf(const AdamWSettings& settings) {
  CHECK_GE(settings.step, 1);
  const double t = static_cast<double>(settings.step);
  return {
      .gradient_scale = settings.gradient_scale,
      .m_share = static_cast<float>(1 - settings.beta1),
      .v_share = static_cast<float>(1 - settings.beta2),
      .decay = static_cast<float>(settings.lr * settings.weight_decay),
      .rate = static_cast<float>(settings.lr / (1 - std::pow(settings.beta1, t))),
      .root = static_cast<float>(1 / std::sqrt(1 - std::pow(settings.beta2, t))),
      .eps = static_cast<float>(settings.eps),
  };
}

// update(block, its part of `also`, its first element) for blocks of the elements.
template <class Moment, class Update>
void ForBlocks(const AdamWElementsOf<Moment>& all, const AdamWAlso& also, const Update& update) {
  CHECK_GE(all.n, 0);
  CHECK(also.clear == nullptr || also.clear == all.gradient);
  ParallelForRanges(all.n, kBlock, [&](int64_t begin, int64_t end) {
    update(AdamWElementsOf<Moment>{all.param + begin, all.gradient + begin, all.m + begin, all.v + begin, end - begin},
           AdamWAlso{also.bf16 != nullptr ? also.bf16 + begin : nullptr,
                     also.clear != nullptr ? also.clear + begin : nullptr},
           begin);
  });
}

}  // namespace

void AdamW(const AdamWElements& all, const AdamWSettings& settings, const AdamWAlso& also) {
  const AdamWCoefficients c = CoefficientsOf(settings);
  ForBlocks(all, also, [&](const AdamWElements& block, const AdamWAlso& here, int64_t) {
    HWY_DYNAMIC_DISPATCH(AdamWSimd)(c, block, here);
  });
}

void AdamW(const AdamWElementsOf<BF16>& all, const AdamWSettings& settings, const Rounding& rounding,
           const AdamWAlso& also) {
  CHECK_EQ(rounding.first % Rounding::kGroup, 0u);
  const AdamWCoefficients c = CoefficientsOf(settings);
  ForBlocks(all, also, [&](const AdamWElementsOf<BF16>& block, const AdamWAlso& here, int64_t begin) {
    HWY_DYNAMIC_DISPATCH(AdamWRoundedSimd)
    (c, block, here, {rounding.key, rounding.first + static_cast<uint64_t>(begin)});
  });
}

double SquaredNorm(const float* x, int64_t n) {
  CHECK_GE(n, 0);
  std::vector<double> partials(static_cast<size_t>((n + kBlock - 1) / kBlock));
  ParallelForRanges(n, kBlock, [&](int64_t begin, int64_t end) {
    partials[static_cast<size_t>(begin / kBlock)] = HWY_DYNAMIC_DISPATCH(SquaredNormBlock)(x + begin, end - begin);
  });
  double sum = 0;
  for (double p : partials) sum += p;
  return sum;
}

}  // namespace taipan
#endif  // HWY_ONCE
