#pragma once
// Mamba-2's state-space mixer (SSD, arXiv 2405.21060, section 6) in chunked form, from matrix products:
//   S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T,   y_t = S_t C_t + D x_t,   S is [H, P, N].
// Chunks lie on the grid of multiples of `chunk` from the document's start, so a piece cut on the grid gives the same
// bits.

#include <span>

#include "tensor/tensor.h"

namespace taipan {

struct SsdShape {
  int64_t heads = 0, head_dim = 0, d_state = 0, groups = 1, chunk = 64;
  int64_t state_size() const { return heads * head_dim * d_state; }
};

// Rows [begin, begin + length): tokens `position`, position + 1, ... of one sequence. Null state_in: zeros; null
// others: not wanted.
struct SsdSegment {
  int64_t begin = 0, length = 0, position = 0;
  const float* state_in = nullptr;    // [H, P, N]
  float* state_out = nullptr;         // may be state_in
  const float* dstate_out = nullptr;  // backward: dL/d state_out
  float* dstate_in = nullptr;         // backward: written
  bool steps = false;                 // forward: with the bits of so many calls of one token; has a state_in
};

struct SsdInputs {
  ConstMatrixView x;         // [T, H*P]
  ConstMatrixView dt;        // [T, H], after softplus and clamp
  ConstMatrixView B, C;      // [T, G*N]
  const float* A = nullptr;  // [H], negative
  const float* D = nullptr;  // [H]
};

struct SsdGradients {
  ConstMatrixView dy;   // [T, H*P]
  MatrixView dx;        // [T, H*P], written
  MatrixView ddt;       // [T, H], written
  MatrixView dB, dC;    // [T, G*N], written
  float* dA = nullptr;  // [H], added to
  float* dD = nullptr;  // [H], added to
};

// Number of chunks of all segments.
int64_t SsdChunks(const SsdShape& shape, std::span<const SsdSegment> segments);

// x, B, C, y and their gradients are f32 or bf16 alike; in bf16 products take bf16 operands and sum in f32, and N and P
// are even. entering_states: the state that enters each chunk, SsdEnteringBytes of them, kept for the backward pass
// (null: not kept).
int64_t SsdEnteringBytes(const SsdShape& shape, std::span<const SsdSegment> segments, DType dtype);

// y [T, H*P] is written.
void SsdForward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments, MatrixView y,
                void* entering_states, Arena& scratch);
void SsdBackward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments,
                 const void* entering_states, const SsdGradients& out, Arena& scratch);

// a = -exp(A_log) [heads], the rate of decay of each head; dA_log += da * a, for dA / dA_log = A.
void DecayRates(const float* A_log, int64_t heads, float* a);
void DecayRatesBackward(const float* a, const float* da, int64_t heads, float* dA_log);

struct TimeStepInputs {
  ConstMatrixView raw;             // [T, H], f32 or bf16
  const float* dt_bias = nullptr;  // [H]
  float lo = 0, hi = 0;
};
struct TimeStepGradients {
  ConstMatrixView ddt;        // [T, H] f32
  MatrixView draw;            // [T, H] like raw, written
  float* ddt_bias = nullptr;  // [H], added to
};

// dt [T, H] f32 = clamp(softplus(raw + dt_bias), lo, hi), exact softplus.
void SsdTimeStep(const TimeStepInputs& in, MatrixView dt);
// The gradient is 0 where the clamp holds.
void SsdTimeStepBackward(const TimeStepInputs& in, const TimeStepGradients& out);

}  // namespace taipan
