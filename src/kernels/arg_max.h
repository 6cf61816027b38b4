#pragma once
// The largest of many numbers, as greedy decoding and the heads of samplers ask for it.

#include <cstdint>
#include <span>

namespace taipan {

struct ArgMax {
  int64_t index = 0;     // of the largest, the first of equal ones
  bool has_nan = false;  // then the index means nothing
};
// At least one number.
ArgMax FindLargest(std::span<const float> values);

}  // namespace taipan
