#pragma once
// The Selective Attention branch (Taipan, sections 3.1-3.2): a gate picks tokens; for those, sliding-window attention
// over the keys of every token refines h by o (kernels/gated_mix.h); the others keep h.

#include "base/rng.h"
#include "kernels/gated_mix.h"
#include "layers/attention_core.h"

namespace taipan {

enum class GateNoise { kNone, kCounter, kGiven };

// What picks the tokens.
enum class SelectionRule {
  kMargin,    // the gate: s1 - s0 (with noise) above delta
  kRandom,    // controls, whatever the gate says: a share of the tokens, drawn,
  kPeriodic,  // or as evenly as can be
};

// How one Selective Attention Layer chooses tokens in a call.
struct GateControls : BranchControls {
  SelectionRule rule = SelectionRule::kMargin;
  double share = 0;  // kRandom, kPeriodic
  GateNoise noise = GateNoise::kNone;
  RandomKey key;                 // kCounter, kRandom: with row and position in the row
  bool by_position = false;      // or with the position in the sequence alone, as in use, where no rows are
  const float* given = nullptr;  // kGiven: [T, 2]
  float tau = 1.0f;
  float delta = 0.0f;       // threshold
  bool attend_all = false;  // straight_through "all": attention for every token, masked, where backward is to follow
};

// What the gate of one Selective Attention Layer did.
struct GateReport : BranchReport {
  std::vector<double> row_sums;  // [rows of the call's largest row + 1]: sum of m over the row's tokens in this call
  const uint8_t* selected = nullptr;  // [T], valid until the call's arenas are reset
  const float* margin = nullptr;      // [T] s1 - s0
  const float* alpha = nullptr;       // [T]
};

// What its backward found out about the selection.
struct GateGradientReport : BranchReport {
  // [T] dL/d m; the budget's share alone where attention was not computed (attend_all computes it for every token).
  std::vector<float> dm;
};

// Its call has GateControls and may have a GateReport, its backward a GateGradientReport; BackwardCall::auxiliary is
// d total / d m of its budget.
std::unique_ptr<Branch> MakeSelectiveAttention(const AttentionDims& dims, Refinement refinement);

}  // namespace taipan
