#pragma once
// Weights of a product of few rows are read once, from memory: what comes next is asked for while the rest is
// multiplied. How depends on the CPU. Measured by `bench decode`, mamba2-130m, one thread, tokens/s:
//                                    Q8_0, Zen 4   bf16, Zen 4   Intel (Sapphire Rapids)
//   nothing                               94            95
//   into the first-level cache            85            75         1.15 and 1.6 times as much as nothing
//   into the second-level cache          120            85
// AMD's first level has too few places for what is under way, and its hardware reads bf16's plain sequence ahead by
// itself.

#include <cstdint>

#include "base/cpu.h"

namespace taipan {

inline const bool kReadsOnAmd = CpuIsAmd();

// Blocks of few bits: `bytes` at p.
inline void AskForBlocks(const uint8_t* p, int64_t bytes) {
  if (kReadsOnAmd) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
  } else {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
  }
}

// Plain numbers: the line at p.
inline void AskForLine(const void* p) {
  if (!kReadsOnAmd) __builtin_prefetch(p, 0, 3);
}

}  // namespace taipan
