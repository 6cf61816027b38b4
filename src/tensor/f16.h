#pragma once
// IEEE half precision: 5 bits of exponent, 11 of significand. Branch-free, so that loops over it vectorise.

#include <bit>
#include <cstdint>

namespace taipan {

struct F16 {
  uint16_t bits = 0;
};

// Exact. No arithmetic on subnormal floats, which would depend on the flush-to-zero mode.
inline float ToFloat(F16 x) {
  constexpr uint32_t kRebias = (127 - 15) << 23, kLeastNormal = 113 << 23;  // 113: the exponent of 2^-14
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t normal = magnitude + kRebias;
  const uint32_t special = magnitude | 0x7f800000;
  const float shifted = std::bit_cast<float>(magnitude + kLeastNormal) - 0x1p-14f;
  const uint32_t small = magnitude < (1u << 23) ? std::bit_cast<uint32_t>(shifted) : normal;
  return std::bit_cast<float>(sign | (magnitude >= (31u << 23) ? special : small));
}

// To nearest, ties to even; infinite from 65520 on; a NaN stays one, with the upper bits of its payload.
inline F16 ToF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  // Normal results: drop 13 bits of significand. Overflow carries into the exponent, up to infinity.
  const uint32_t rounded = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t normal = rounded < 0x7c00 ? rounded : 0x7c00;
  // Subnormal results: adding 1/2 leaves the multiple of 2^-24 in the low bits, rounded as the addition rounds.
  const float shifted = std::bit_cast<float>(magnitude < (113u << 23) ? magnitude : 0u) + 0.5f;
  const uint32_t small = std::bit_cast<uint32_t>(shifted) - (126u << 23);
  const uint32_t nan = 0x7c00 | ((magnitude >> 13) & 0x3ff) | 0x200;
  const uint32_t finite = magnitude < (113u << 23) ? small : normal;
  const uint32_t large = magnitude > 0x7f800000 ? nan : finite;
  return {static_cast<uint16_t>(sign | (magnitude == 0x7f800000 ? 0x7c00 : large))};
}

}  // namespace taipan
