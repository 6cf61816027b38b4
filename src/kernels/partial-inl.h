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
#include "kernels/bf16_instructions.h"
#include "tensor/bf16.h"

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

// Lanes(d) numbers of bfloat16 as floats.
template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const BF16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)))));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const float* p) {
  return hn::LoadU(d, p);
}

// bfloat16 in the low half of each lane, rounded to nearest even as ToBF16 does; the payload of a NaN may differ.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint32_t, D>> BF16Bits(D, hn::Vec<D> v) {
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
  const auto number = hn::RebindMask(d32, hn::Eq(v, v));  // Ne(NaN, NaN) is false on x86
  return hn::ShiftRight<16>(hn::IfThenElse(number, rounded, quiet));
}

// The CPU's own conversions, where it has them, are a tenth of the work; they make numbers below 2^-126 zero. They
// stand in assembly, because an intrinsic is inlined only into functions that are compiled for AVX512-BF16.
#if HWY_TARGET == HWY_AVX3
HWY_INLINE bool HasConversion() { return HWY_LIKELY(bf16_instructions.load(std::memory_order_relaxed)); }
#endif

template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, BF16* p) {
  const hn::Rebind<uint16_t, D> d16;
  uint16_t* to = reinterpret_cast<uint16_t*>(p);
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) >= 8) {
    if (HasConversion()) {
      hn::Vec<decltype(d16)> half;
      __asm__("vcvtneps2bf16 %1, %0" : "=v"(half.raw) : "v"(v.raw));
      hn::StoreU(half, d16, to);
      return;
    }
  }
#endif
  const hn::Rebind<int32_t, D> di;
  const auto demoted = hn::DemoteTo(d16, hn::BitCast(di, BF16Bits(d, v)));  // below 2^16: nothing saturates
  hn::StoreU(demoted, d16, to);
}

// Pairs (first[i], second[i]), first in the low half.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint32_t, D>> BF16Pairs(D d, hn::Vec<D> first, hn::Vec<D> second) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) {
    if (HasConversion()) {
      __m512i halves;  // first's 16 values, then second's
      __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(halves) : "v"(second.raw), "v"(first.raw));
      const hn::Rebind<uint32_t, D> d32;
      const auto value = hn::Iota(d32, 0u);  // lane i takes values i and 16 + i
      const auto order = hn::Or(value, hn::ShiftLeft<16>(hn::Add(value, hn::Set(d32, 16u))));
      return hn::Vec<decltype(d32)>{_mm512_permutexvar_epi16(order.raw, halves)};
    }
  }
#endif
  return hn::Or(BF16Bits(d, first), hn::ShiftLeft<16>(BF16Bits(d, second)));
}
template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, float* p) {
  hn::StoreU(v, d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadPartial(D d, const BF16* p, int64_t n, float fill) {
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(hn::Set(d, fill), d, lanes);
  for (int64_t i = 0; i < n; ++i) lanes[i] = ToFloat(p[i]);
  return hn::Load(d, lanes);
}

template <class D>
HWY_INLINE void StorePartial(hn::Vec<D> v, D d, BF16* p, int64_t n) {
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < n; ++i) p[i] = ToBF16(lanes[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif
