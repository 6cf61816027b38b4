#pragma once
// Sweeps over memory for `taipan bench roof`: vector loads and stores, nothing else.

#include <cstdint>

namespace taipan {

// Reads n floats and returns a sum of their bits, so that no load can be left out (the call goes through a function
// pointer). n a multiple of 256.
uint32_t SweepRead(const float* data, int64_t n);
// Writes n floats. n a multiple of 256.
void SweepWrite(float* data, int64_t n, float value);

}  // namespace taipan
