#pragma once
// bfloat16: the upper half of a float, 8 bits of significand.

#include <bit>
#include <cstdint>

namespace taipan {

struct BF16 {
  uint16_t bits = 0;
};

inline float ToFloat(BF16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float ToFloat(float x) { return x; }

// To nearest, ties to even; a NaN stays one.
inline BF16 ToBF16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace taipan
