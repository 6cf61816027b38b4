#pragma once
// Shared by the forward and backward of the chunked SSD: chunks, blocks of heads, and what is computed once a chunk.
//
// A task is one block of heads of one sequence: it walks the chunks in order (backward: in reverse) with its state,
// kept transposed [N, W], in cache. W = block heads * P columns, adjacent in x and y.

#include "kernels/carver.h"
#include "kernels/element_type.h"
#include "kernels/ssd/ssd.h"

namespace taipan::ssd {

struct Chunk {
  int64_t segment, begin, length;  // rows [begin, begin + length)
  int64_t index;                   // among all chunks
  bool first, last;                // of its segment
};

struct ChunkList {
  Chunk* chunks = nullptr;
  int64_t count = 0;
  int64_t* first = nullptr;  // [segments + 1]: chunks of segment s are [first[s], first[s + 1])
};

ChunkList ListChunks(const SsdShape& shape, std::span<const SsdSegment> segments, Arena& arena);

// Rows of a chunk's scratch: even, so that bf16 rows pair up.
inline int64_t PaddedChunk(const SsdShape& shape) { return (shape.chunk + 1) / 2 * 2; }

// Rows or columns of the triangle handled together: nothing beyond the diagonal block is computed. Even.
constexpr int64_t kTriangleBlock = 16;

// Heads cut into blocks of equal size within a group.
struct HeadBlocks {
  int64_t heads;      // of a block
  int64_t width;      // W
  int64_t per_group;  // blocks
  int64_t count;      // blocks of all groups
};
constexpr int64_t kMaxBlockHeads = 64;
HeadBlocks BlocksOf(const SsdShape& shape);

// Of each chunk and group, in the element type of x: B and C packed in pairs of rows, and the triangle of their
// products. Forward: products [T, G, chunk] holds C_i . B_j in row i, j <= i. Backward (transposed): B_j . C_i in row
// j, i >= j. What lies on the other side of the diagonal block is not written.
struct GroupOperands {
  void* b = nullptr;  // [chunks, G, chunk rows packed, N]
  void* c = nullptr;  // the same
  float* products = nullptr;
  int64_t packed_bytes = 0;  // of one chunk and group

  const void* B(const SsdShape& s, int64_t chunk, int64_t group) const { return At(b, s, chunk, group); }
  const void* C(const SsdShape& s, int64_t chunk, int64_t group) const { return At(c, s, chunk, group); }
  const void* At(const void* base, const SsdShape& s, int64_t chunk, int64_t group) const {
    return static_cast<const char*>(base) + (chunk * s.groups + group) * packed_bytes;
  }
  // Row `row` of the call's rows; rows are ProductsStride apart.
  float* Products(const SsdShape& s, int64_t row, int64_t group) const {
    return products + (row * s.groups + group) * PaddedChunk(s);
  }
};
inline int64_t ProductsStride(const SsdShape& s) { return s.groups * PaddedChunk(s); }
GroupOperands PrepareGroups(const SsdShape& shape, const SsdInputs& in, ChunkList list, bool transposed,
                            Arena& scratch);

// Of one head in one chunk, [chunk] each.
struct Decay {
  float* cum;         // running sum of dt * A
  float* from_start;  // exp(cum_i)
  float* to_end;      // exp(cum_last - cum_i)
  float* dt;
};
constexpr int64_t kDecayArrays = 4;

// Bytes of the elements of x.
inline int64_t ElementBytes(const SsdInputs& in) { return SizeOf(in.x.dtype); }

}  // namespace taipan::ssd
