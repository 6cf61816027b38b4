#pragma once
// What is added to the scores of a token gate in training: a function of (key, index) alone, never of where or when a
// token is computed.

#include "base/rng.h"

namespace taipan {

// Gumbel pairs [n, 2] of the indices first, first + 1, ...
void GumbelPairs(const RandomKey& key, uint64_t first, int64_t n, float* pairs);
// Pairs that decide whatever the scores say. Random: this share of the tokens is selected, drawn.
void DecisivePairs(const RandomKey& key, uint64_t first, int64_t n, double share, float* pairs);
// Periodic: of the tokens 0 ... i of a sequence floor((i + 1) * share) are selected, as evenly as can be.
void PeriodicPairs(uint64_t first, int64_t n, double share, float* pairs);

}  // namespace taipan
