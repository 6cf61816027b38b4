#pragma once
// What every layer kind provides: parameters with their attributes, a state for one sequence, one forward over segments
// and its backward. `h` [T, d] is the residual stream: Forward updates it in place.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "layers/state.h"
#include "tensor/tensor.h"

namespace taipan {

enum class Init {
  kNormal,          // N(0, initializer_range)
  kNormalResidual,  // N(0, initializer_range / sqrt(residual branches)): projections that write to the residual stream
  kOnes,
  kZeros,
  kConv,      // uniform +-1/sqrt(W), the default of torch.nn.Conv1d with one channel a group
  kALog,      // log of uniform [1, 16]
  kDtBias,    // inverse softplus of log-uniform [1e-3, 1e-1], floor 1e-4
  kGateBias,  // [-b/2, b/2] with b the initial s_1 - s_0
};

// Attributes are set where the parameter is declared and feed init, optimizer, files and tests.
struct ParamInfo {
  std::string name;  // below the block, as in files: "mixer.in_proj.weight"
  bool decay = true;
  Init init = Init::kNormal;
  std::vector<int64_t> file_shape;  // where it differs from the tensor's: conv1d.weight is [C, 1, W] in files
  Tensor* bf16 = nullptr;           // of a linear weight: its copy for products in bf16
};
using ParamVisitor = std::function<void(const ParamInfo&, Tensor&)>;

// The weights of one block, or their gradients: the same shapes.
struct BlockParams {
  virtual ~BlockParams() = default;
  virtual void ForEach(const ParamVisitor& visit) = 0;
};

// What a block keeps from forward for backward; views into the call's results arena.
struct BlockSaved {
  virtual ~BlockSaved() = default;
};

struct LayerSegment {
  int64_t begin = 0, length = 0;         // rows of h
  int64_t row = 0, row_begin = 0;        // row of the step, and where in the row the segment begins
  int64_t position = 0;                  // of its first token in its sequence
  const LayerState* state_in = nullptr;  // null: a fresh sequence
  LayerState* state_out = nullptr;       // null: not wanted; may be state_in
};

enum class GateNoise { kNone, kCounter, kGiven, kForced };

// How Selective Attention Layers choose tokens in this call.
struct GateOptions {
  GateNoise noise = GateNoise::kNone;
  uint64_t seed = 0;  // kCounter: with the step, the SAL's index, row and position in the row
  uint32_t step = 0;
  std::vector<const float*> given;  // kGiven: [T, 2] a SAL
  double forced_share = 0;  // kForced: this share of the tokens, drawn like kCounter's noise, whatever the gate says
  float tau = 1.0f;
  std::vector<float> delta;  // threshold a SAL; empty: 0
  bool attend_all = false;   // straight_through "all": attention for every token, masked
};

// What the gates did, one a SAL.
struct GateReport {
  std::vector<double> row_sums;  // [rows of the call's largest row + 1]: sum of m over the row's tokens in this call
  const uint8_t* selected = nullptr;  // [T], valid until the call's arenas are reset
  const float* margin = nullptr;      // [T] s1 - s0
  const float* alpha = nullptr;       // [T]
};

struct ForwardCall {
  std::span<const LayerSegment> segments;
  Arena* scratch = nullptr;  // of this block alone
  Arena* results = nullptr;  // lives until the next forward: saved activations and gate reports
  bool keep = false;         // for backward
  bool keep_mixer =
      true;  // with keep: what Mamba-2's convolution, SSD and gated norm leave; else backward runs them again
  DType dtype = DType::kF32;  // of activations and products: f32 or bf16; h is always f32
  const GateOptions* gate = nullptr;
  GateReport* report = nullptr;  // of this SAL; null elsewhere
  int64_t sal_index = 0;         // among the model's SALs
};

struct BackwardCall {
  std::span<const LayerSegment> segments;
  Arena* scratch = nullptr;
  DType dtype = DType::kF32;                              // as in the forward
  std::span<const LayerStateGradient* const> dstate_out;  // a segment each, or empty; null: zero
  std::span<LayerStateGradient* const> dstate_in;         // a segment each, or empty; null: dropped
  std::span<const float> dm_row;                          // d total / d m of this SAL's budget, a row of the step each
  const GateOptions* gate = nullptr;
};

class Block {
 public:
  virtual ~Block() = default;
  virtual std::unique_ptr<BlockParams> NewParams() const = 0;  // zeros
  virtual std::unique_ptr<BlockSaved> NewSaved() const = 0;
  virtual LayerState NewState() const = 0;  // of an empty sequence
  virtual bool selective() const { return false; }
  virtual int residual_branches() const = 0;

  // saved: what NewSaved gave, filled where call.keep is set.
  virtual void Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const = 0;
  // dh: dL/d h after the block on entry, before the block on return. Parameter gradients are added to `grads`.
  virtual void Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                        BlockParams& grads) const = 0;
};

}  // namespace taipan
