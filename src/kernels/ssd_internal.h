#pragma once
// Shared by the forward and backward of the chunked SSD: the list of chunks and the operands of one.

#include "kernels/ssd.h"

namespace taipan::ssd {

struct Chunk {
  int64_t segment, begin, length;  // rows [begin, begin + length)
  bool first, last;                // of its segment
  bool zero_state;                 // the state that enters is zero
};

struct ChunkList {
  Chunk* chunks = nullptr;
  int64_t count = 0;
};

// Chunks of one segment: cut at the multiples of shape.chunk of the sequence's own positions.
inline int64_t FirstChunkLength(const SsdShape& shape, const SsdSegment& s) {
  const int64_t to_grid = shape.chunk - s.position % shape.chunk;
  return s.length < to_grid ? s.length : to_grid;
}

ChunkList ListChunks(const SsdShape& shape, std::span<const SsdSegment> segments, Arena& arena);

// C_i . B_j for j <= i of every chunk and group: [T, G, chunk] floats, row i of a chunk at its own row. Chunks of one
// token are left out (forward steps them) unless single_tokens.
float* GroupProducts(const SsdShape& shape, const SsdInputs& in, ChunkList list, Arena& scratch, bool single_tokens);

// decay[i] = exp(cum_i), rest[i] = exp(cum_last - cum_i); cum is the running sum of dt * A within the chunk.
struct Decay {
  float* cum;
  float* from_start;
  float* to_end;
};
void ChunkDecay(const SsdInputs& in, const Chunk& c, int64_t head, Decay out);

}  // namespace taipan::ssd
