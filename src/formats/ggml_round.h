#pragma once
// Rounding to quantized blocks: of each block the scales with the least weighted squared error among many tried.

#include "tensor/ggml_blocks.h"

namespace taipan {

// What the codes of a block stand for once its scales are chosen: step * level + offset, by the run of weights that
// share them.
struct BlockGrid {
  int run_bits = 5;         // runs of 2^run_bits weights
  float low = 0, high = 0;  // levels are whole numbers, that of code 0 is low, or
  bool table = false;       // those of IQ4_NL
  float step[16] = {}, inverse[16] = {}, offset[16] = {};

  uint8_t Code(int i, float x) const;
  float Value(int i, uint8_t code) const;
};

// No type holds more than 65504 * 128 * 32; below, none of the sums of a search overflows.
constexpr float kMostRounded = 1e9f;

struct BlockInput {
  const float* x = nullptr;           // the weights of the block, at most kMostRounded in size
  const float* importance = nullptr;  // of the square of each one's error; null: it grows with their size
};
// Q8_0 and the types of CanRound: the scales of a block, into `to` as well. False where they are out of range.
[[nodiscard]] bool ChooseScales(GgmlType type, const BlockInput& in, uint8_t* to, BlockGrid& grid);

// Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL.
bool CanRound(GgmlType type);
// n weights, whole blocks. False where one is not finite or beyond the type's range; `to` is void then.
[[nodiscard]] bool RoundToBlocks(GgmlType type, const float* from, int64_t n, uint8_t* to);

}  // namespace taipan
