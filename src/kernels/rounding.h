#pragma once
// Stochastic rounding to bf16: up or down with chances that make the mean right. Values that change by less than half a
// step of bf16 at a time then still move.

#include "base/rng.h"

namespace taipan {

// The random bits of an array: a function of the key and of the places of its elements, so neither threads nor the
// pieces that an array is worked on in make a difference.
struct Rounding {
  static constexpr int64_t kGroup = 64;  // elements that share sixteen draws

  RandomKey key = {};
  uint64_t first = 0;  // the place of the array's first element; a multiple of kGroup
};

}  // namespace taipan
