#pragma once
// Weights of a product of few rows are read once, from memory: what comes next is asked for while the rest is
// multiplied. How depends on the CPU. Measured by `bench decode`, mamba2-130m, one thread, tokens/s:
//                                    Q8_0, Zen 4   bf16, Zen 4   Intel (Sapphire Rapids)
//   nothing                               94            95
//   into the first-level cache            85            75         1.15 and 1.6 times as much as nothing
//   into the second-level cache          120            85
// AMD's first level has too few places for what is under way, and its hardware reads ahead by itself where addresses
// only rise, one after the other: half of the speed is lost where two rows take turns. The column of bf16 is of rows
// widened half a line at a time; whole lines, as the CPU's bf16 products take them, gain from the second level too (a
// core 26 to 30 GB/s without, 30 to 33 with it).

#include <cstdint>

#include "base/cpu.h"

namespace taipan {

inline const bool kReadsOnAmd = CpuIsAmd();

// Blocks of few bits, and bf16: what lies behind `bytes` at p.
inline void AskBehindBlocks(const uint8_t* p, int64_t bytes, int64_t ahead_on_amd = 2048) {
  if (kReadsOnAmd) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + ahead_on_amd + i, 0, 2);
  } else {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + 8192 + i, 0, 3);
  }
}

// Their scales and upper bits, before the lower bits behind them: else these would take turns.
inline void ReadHeads(const uint8_t* begin, const uint8_t* end) {
  if (!kReadsOnAmd) return;
  for (const volatile uint8_t* p = begin; p < end; p += 64) static_cast<void>(*p);
}

// Plain numbers, as keys and values.
inline void AskForLines(const void* p, int64_t bytes) {
  if (kReadsOnAmd) return;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i, 0, 3);
}

}  // namespace taipan
