#pragma once
// Projections, rotary embedding, keys and values across segments, and attention of chosen queries: what plain and
// selective attention share. Keys and values exist for every token; queries for the chosen rows only.

#include "kernels/attention/attention.h"
#include "layers/branch.h"

namespace taipan {

struct AttentionDims {
  int64_t d_model = 0;
  AttentionShape shape;      // heads, kv_heads, head_dim, window (0: full)
  std::vector<double> rope;  // inverse frequencies; empty: no positional embedding
  float eps = 1e-5f;
  float out_multiplier = 1;  // of what o_proj gives

  int64_t q_width() const { return shape.heads * shape.head_dim; }
  int64_t kv_width() const { return shape.kv_heads * shape.head_dim; }
};

struct AttentionProjections {
  Weight q_proj;          // [Ha*dh, d]
  Weight k_proj, v_proj;  // [Hkv*dh, d]
  Weight o_proj;          // [d, Ha*dh]

  explicit AttentionProjections(const AttentionDims& dims);
  void ForEach(const WeightVisitor& visit) { VisitWeights(visit, q_proj, k_proj, v_proj, o_proj); }
};
std::vector<StateSpec> AttentionState(const AttentionDims& dims);
// Of projections, rotation and attention, `share` of the tokens being queries.
void AttentionCost(const AttentionDims& dims, double share, CostSink& sink);
// Without norm and, where queries are picked, gate; every token may be one.
TrainingBytes AttentionBytes(const AttentionDims& dims, double element_bytes, bool picked);

struct AttendInputs {
  ConstMatrixView u;              // [T, d] in the call's type; lives as long as what is saved
  const int64_t* rows = nullptr;  // [n] rows of u that attend, ascending; null: all
  int64_t n = 0;
};

struct AttentionSaved {
  AttendInputs in;
  int64_t* positions;         // [n] of the queries
  ConstMatrixView uq;         // [n, d] what q_proj read: u itself where all rows attend
  MatrixView q;               // [n, Ha*dh] rotated
  MatrixView k, v;            // [T, Hkv*dh], k rotated
  MatrixView context;         // [n, Ha*dh] attention's output
  float* lse;                 // [n, Ha]
  std::vector<KvCache> past;  // a segment each: incoming keys and values (pages shared)
};

struct AttendOutput {
  MatrixView o;  // [n, d] f32 = or += out_multiplier * o_proj(attention of the rows)
  Accumulate acc = Accumulate::kWrite;
};
struct AttendGradients {
  ConstMatrixView d_o;  // [n, d] in the call's type: out_multiplier times the gradient of o
  MatrixView du;        // [T, d] f32, written
};

// Appends to outgoing states.
void AttendForward(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call,
                   const AttendInputs& in, AttendOutput out, AttentionSaved& saved);
// Keys and values of rows [begin, begin + count) of a forward that kept rows.
void AppendKeys(const AttentionSaved& saved, int64_t begin, int64_t count, LayerState& state);
void AttendBackward(const AttentionDims& dims, const AttentionProjections& p, const BackwardCall& call,
                    const AttentionSaved& saved, const AttendGradients& out, AttentionProjections& grads);

}  // namespace taipan
