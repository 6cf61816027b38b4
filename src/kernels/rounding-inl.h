// Random bits and the store of stochastic rounding; include within a foreach_target file (hence no ordinary include
// guard).
#if defined(TAIPAN_ROUNDING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_ROUNDING_INL_H_
#undef TAIPAN_ROUNDING_INL_H_
#else
#define TAIPAN_ROUNDING_INL_H_
#endif

#include "kernels/rounding.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// bits[16 w + c]: word w of RandomBits(key, index + c).
#if HWY_TARGET == HWY_SCALAR  // has no lanes of two widths
inline void RandomWords(const RandomKey& key, uint64_t index, uint32_t* bits) {
  for (size_t c = 0; c < 16; ++c) {
    const auto words = RandomBits(key, index + c);
    for (size_t w = 0; w < 4; ++w) bits[16 * w + c] = words[w];
  }
}
#else
// Philox4x32-10 on the low halves of 64-bit lanes; what stands in the high halves does not count.
HWY_INLINE void RandomWords(const RandomKey& key, uint64_t index, uint32_t* HWY_RESTRICT bits) {
  const hn::CappedTag<uint64_t, 8> d;
  const hn::Repartition<uint32_t, decltype(d)> halves;
  const hn::Rebind<uint32_t, decltype(d)> d32;
  const auto m0 = hn::BitCast(halves, hn::Set(d, 0xD2511F53)), m1 = hn::BitCast(halves, hn::Set(d, 0xCD9E8D57));
  const size_t lanes = hn::Lanes(d);
  for (size_t c = 0; c < 16; c += lanes) {
    const auto counter = hn::Iota(d, index + c);
    auto x0 = counter, x1 = hn::ShiftRight<32>(counter), x2 = hn::Set(d, uint64_t{key.step});
    auto x3 = hn::Set(d, uint64_t{key.stream});
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const auto p0 = hn::MulEven(hn::BitCast(halves, x0), m0), p1 = hn::MulEven(hn::BitCast(halves, x2), m1);
      x0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), x1), hn::Set(d, uint64_t{k0}));
      x2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), x3), hn::Set(d, uint64_t{k1}));
      x1 = p1;
      x3 = p0;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    hn::StoreU(hn::TruncateTo(d32, x0), d32, bits + c);
    hn::StoreU(hn::TruncateTo(d32, x1), d32, bits + 16 + c);
    hn::StoreU(hn::TruncateTo(d32, x2), d32, bits + 32 + c);
    hn::StoreU(hn::TruncateTo(d32, x3), d32, bits + 48 + c);
  }
}
#endif

// f(begin, count, bits) for each group of n elements, with 32 random bits an element. f: marked HWY_ATTR.
template <class F>
HWY_INLINE void ForGroups(const Rounding& rounding, int64_t n, const F& f) {
  HWY_ALIGN uint32_t bits[Rounding::kGroup];
  for (int64_t i = 0; i < n; i += Rounding::kGroup) {
    RandomWords(rounding.key, (rounding.first + static_cast<uint64_t>(i)) / 4, bits);
    f(i, HWY_MIN(Rounding::kGroup, n - i), static_cast<const uint32_t*>(bits));
  }
}

// Rounded by 16 of the bits at `bits`, those from kShift on. Infinities stay; numbers are finite otherwise.
template <int kShift, class P>
HWY_INLINE void StoreRounded(FloatVec v, FloatTag d, const uint32_t* bits, BF16* p, P part) {
  const hn::Rebind<uint32_t, FloatTag> d32;
  const hn::Rebind<int32_t, FloatTag> di;
  const hn::Rebind<uint16_t, FloatTag> d16;
  const auto random = hn::And(hn::ShiftRight<kShift>(hn::LoadU(d32, bits)), hn::Set(d32, 0xffffu));
  const auto upper = hn::ShiftRight<16>(hn::Add(hn::BitCast(d32, v), random));
  if constexpr (std::is_same_v<P, Whole>) {
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, upper)), d16, reinterpret_cast<uint16_t*>(p));
  } else {
    StorePartial(hn::BitCast(d, hn::ShiftLeft<16>(upper)), d, p, part.n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
