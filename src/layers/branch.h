#pragma once
// What every kind of layer is made of: residual branches, h <- h + f(h) or another update of the stream in place. A
// branch declares its weights, state and work (spec.h, cost.h), and has one forward over segments and its backward.
// `h` [T, d] is the residual stream.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "layers/cost.h"
#include "layers/state.h"
#include "layers/weight.h"
#include "tensor/tensor.h"

namespace taipan {

// The weights of one branch, or their gradients: the same shapes.
struct BranchParams {
  virtual ~BranchParams() = default;
  virtual void ForEach(const WeightVisitor& visit) = 0;
};

// What a branch keeps from forward for backward; views into the call's results arena.
struct BranchSaved {
  virtual ~BranchSaved() = default;
};

// What a kind of branch may be told in a call, and what it may tell: its own type derives from these.
struct BranchControls {
  virtual ~BranchControls() = default;
};
struct BranchReport {
  virtual ~BranchReport() = default;
};

struct LayerSegment {
  int64_t begin = 0, length = 0;         // rows of h
  int64_t row = 0, row_begin = 0;        // row of the step, and where in the row the segment begins
  int64_t position = 0;                  // of its first token in its sequence
  const LayerState* state_in = nullptr;  // null: a fresh sequence
  LayerState* state_out = nullptr;       // null: not wanted; may be state_in
};

enum class Keep {
  kNothing,
  kRows,  // what Advance appends to states; Mamba-2 goes token by token, so that each row has the bits of a step
  kLess,  // leaves out what backward can make again at the price of some time (Mamba-2: convolution, SSD, gated norm)
  kAll,
};

struct ForwardCall {
  std::span<const LayerSegment> segments;
  Arena* scratch = nullptr;  // of this branch alone
  Arena* results = nullptr;  // lives until the next forward: saved activations and reports
  Keep keep = Keep::kNothing;
  DType dtype = DType::kF32;                     // of activations and products: f32 or bf16; h is always f32
  std::optional<DType> kv_dtype = std::nullopt;  // of keys and values, f32, bf16 or int8; none: dtype
  const BranchControls* controls = nullptr;
  BranchReport* report = nullptr;

  bool kept() const { return keep >= Keep::kLess; }  // for backward
  Arena& arena() const { return kept() ? *results : *scratch; }
  Arena& rows_arena() const { return keep != Keep::kNothing ? *results : *scratch; }  // of what kRows keeps
};

struct BackwardCall {
  std::span<const LayerSegment> segments;  // of the forward; their states are not read
  Arena* scratch = nullptr;
  DType dtype = DType::kF32;                              // as in the forward
  std::span<const LayerStateGradient* const> dstate_out;  // a segment each, or empty; null: zero
  std::span<LayerStateGradient* const> dstate_in;         // a segment each, or empty; null: dropped
  // The gradient of the branch's own loss term (a SAL's budget), a row of the step each; empty: none.
  std::span<const float> auxiliary;
  BranchReport* report = nullptr;  // what a kind of branch may tell of its backward; its own type
};

class Branch {
 public:
  virtual ~Branch() = default;
  virtual std::unique_ptr<BranchParams> Declare() const = 0;  // nothing is bound
  virtual std::vector<StateSpec> State() const { return {}; }
  virtual void Cost(CostSink& sink) const = 0;
  virtual TrainingBytes Bytes(double element_bytes, Keep keep) const = 0;
  virtual bool selective() const { return false; }  // has a token gate: GateControls, GateReport

  virtual std::unique_ptr<BranchSaved> NewSaved() const = 0;
  // saved: what NewSaved gave, filled where call.keep says so; null where nothing is kept.
  virtual void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const = 0;
  // Appends rows [begin, begin + count) of the last forward, which kept rows, to the state that they were read after.
  virtual void Advance(const BranchParams& params, const BranchSaved& saved, int64_t begin, int64_t count,
                       LayerState& state, Arena& scratch) const {}
  // dh: dL/d h after the branch on entry, before it on return. Parameter gradients are added to `grads`.
  virtual void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                        BranchParams& grads) const = 0;
};

}  // namespace taipan
