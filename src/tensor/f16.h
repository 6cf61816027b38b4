#pragma once
// IEEE half precision: 5 bits of exponent, 11 of significand. Branch-free, so that loops over it vectorise.

#include <bit>
#include <cstdint>

namespace taipan {

struct F16 {
  uint16_t bits = 0;
};

namespace internal {
// By masks: compilers turn ?: around floating-point arithmetic into jumps, which keep loops from vectorising.
inline uint32_t Select(bool which, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(which);
  return (yes & mask) | (no & ~mask);
}
}  // namespace internal

// Exact. No arithmetic on subnormal floats, which would depend on the flush-to-zero mode.
inline float ToFloat(F16 x) {
  constexpr uint32_t kRebias = (127 - 15) << 23, kLeastNormal = 113 << 23;  // 113: the exponent of 2^-14
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude + kLeastNormal) - 0x1p-14f);
  const uint32_t finite = internal::Select(magnitude < (1u << 23), small, magnitude + kRebias);
  return std::bit_cast<float>(sign | internal::Select(magnitude >= (31u << 23), magnitude | 0x7f800000, finite));
}

// To nearest, ties to even; infinite from 65520 on; a NaN stays one, with the upper bits of its payload.
inline F16 ToF16(float x) {
  constexpr uint32_t kInfinity = 0x7f800000, kLeastNormal = 113 << 23;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  // Normal results: drop 13 bits of significand. Overflow carries into the exponent, up to infinity.
  const uint32_t rounded = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t normal = internal::Select(rounded < 0x7c00, rounded, 0x7c00);
  // Subnormal results: adding 1/2 leaves the multiple of 2^-24 in the low bits, rounded as the addition rounds.
  const bool is_small = magnitude < kLeastNormal;
  const float shifted = std::bit_cast<float>(internal::Select(is_small, magnitude, 0)) + 0.5f;
  const uint32_t finite = internal::Select(is_small, std::bit_cast<uint32_t>(shifted) - (126u << 23), normal);
  const uint32_t nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  const uint32_t special = internal::Select(magnitude > kInfinity, nan, 0x7c00);
  return {static_cast<uint16_t>(sign | internal::Select(magnitude >= kInfinity, special, finite))};
}

}  // namespace taipan
