#pragma once
// What the backward of the chunked SSD hands to its parts.

#include <algorithm>

#include "kernels/ssd/ssd_internal.h"

namespace taipan::ssd {

struct BackwardArgs {
  const SsdShape& shape;
  const SsdInputs& in;
  std::span<const SsdSegment> segments;
  const SsdGradients& out;
  ChunkList list;
  HeadBlocks blocks;
  GroupOperands groups;
  ConstMatrixView entering;  // [chunks * blocks, N * W]
  // Of each block [blocks, ...]: dL/dB and dL/dC through states [T, N], and dL/d(B_j . C_i) [T, Q] in row j.
  float *db, *dc, *dproducts;
  float* da_dd;  // [chunks, H, 2]

  int64_t rows() const { return in.x.rows; }
  float* DB(int64_t block, int64_t row) const { return db + (block * rows() + row) * shape.d_state; }
  float* DC(int64_t block, int64_t row) const { return dc + (block * rows() + row) * shape.d_state; }
  float* DProducts(int64_t block, int64_t row) const { return dproducts + (block * rows() + row) * PaddedChunk(shape); }
};

// One thread's scratch; Q rows of a chunk.
struct BackwardScratch {
  float* g;       // [N, W] gradient of the state that leaves the chunk
  float* r;       // [Q, W] B G: what that gradient asks of x
  float* dx;      // [Q, W] gradient of dt x within the chunk, dt left out
  float* decay;   // [block heads, kDecayArrays, Q]
  float* dcum;    // [block heads, Q]
  float* ddt;     // [block heads, Q]
  float* weight;  // [Q] decays since the end of a block of the triangle
  float* dm;      // [kTriangleBlock, Q] x_j . dy_i
  float* tmp;     // [Q, N]
  void* m;        // [kTriangleBlock, Q] in the element type of x
  void* scaled;   // the larger of [Q, W] and [N, W] in that type
  void* packed;   // the same size, packed
  void* packed2;  // [Q, P] packed

  BackwardScratch(const SsdShape& s, const HeadBlocks& b, void* at, int64_t* bytes) {
    const int64_t q = PaddedChunk(s), n = (s.d_state + 1) / 2 * 2, p = (s.head_dim + 1) / 2 * 2;
    Carver carver(at);
    g = carver.Take<float>(s.d_state * b.width);
    r = carver.Take<float>(q * b.width);
    dx = carver.Take<float>(q * b.width);
    decay = carver.Take<float>(b.heads * kDecayArrays * q);
    dcum = carver.Take<float>(b.heads * q);
    ddt = carver.Take<float>(b.heads * q);
    weight = carver.Take<float>(q);
    dm = carver.Take<float>(kTriangleBlock * q);
    tmp = carver.Take<float>(q * n);
    m = carver.Take<float>(kTriangleBlock * q);
    scaled = carver.Take<float>(std::max(n, q) * b.width);
    packed = carver.Take<float>(std::max({n * b.width, q * b.width, q * p, p * n}));
    packed2 = carver.Take<float>(q * p);
    if (bytes != nullptr) *bytes = carver.used();
  }
};

}  // namespace taipan::ssd
