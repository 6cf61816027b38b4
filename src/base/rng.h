#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A value is a pure function of (seed, stream, step, index); thread and call order do not matter.

#include <array>
#include <cstdint>

namespace taipan {

// Ten rounds of Philox4x32: the reference function, tested against the published vectors of Random123.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// What a stream of numbers is for. Layers add their index: kGumbel + SAL index, kInit + parameter index.
enum RandomStream : uint32_t {
  kInitStream = 0x10000000,     // + index of the parameter
  kGumbelStream = 0x20000000,   // + index of the SAL; index = row << 32 | position in the row
  kShuffleStream = 0x30000000,  // step = epoch
  kSampleStream = 0x40000000,   // index = position of the token
  kTaskStream = 0x50000000,     // synthetic data
  kTestStream = 0x60000000,
  kStateStream = 0x70000000,     // + index of the layer: initial states
  kDocumentStream = 0x80000000,  // groups of documents; + 1: within a group; step = epoch
  kRoundingStream = 0x90000000,  // + index of the parameter: moments in bf16; index = place in it / 4
};

struct RandomKey {
  uint64_t seed = 0;
  uint32_t stream = 0;
  uint32_t step = 0;
};

std::array<uint32_t, 4> RandomBits(const RandomKey& key, uint64_t index);
double RandomUniform(const RandomKey& key, uint64_t index);                   // in the open interval (0, 1)
double RandomNormal(const RandomKey& key, uint64_t index);                    // N(0, 1), Box-Muller
std::array<float, 2> RandomGumbelPair(const RandomKey& key, uint64_t index);  // two independent Gumbel(0, 1)
// In [0, n), without bias beyond 2^-32.
uint64_t RandomBelow(const RandomKey& key, uint64_t index, uint64_t n);
// The image of i under a pseudo-random permutation of [0, n): a cycle-walking Feistel network keyed by `key`.
uint64_t RandomPermutation(const RandomKey& key, uint64_t i, uint64_t n);

}  // namespace taipan
