#pragma once
// The model: embedding, blocks, final norm, head; one forward over segments and its backward, for training, packed
// documents, chunked prefill, batched and single-token decoding alike.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "layers/block.h"
#include "model/config.h"

namespace taipan {

// Weights, or gradients of the same shapes. lm_head is empty where tied.
struct ModelParams {
  LinearWeight embedding;  // [V, d]
  std::vector<std::unique_ptr<BlockParams>> blocks;
  Tensor norm;           // [d]
  LinearWeight lm_head;  // [V, d]

  // Every parameter once, in file order, with its full name ("model.layers.0.mixer.in_proj.weight").
  void ForEach(const ParamVisitor& visit);
  void Zero();
  const LinearWeight& head() const { return lm_head.master.empty() ? embedding : lm_head; }
  LinearWeight& head() { return lm_head.master.empty() ? embedding : lm_head; }
};

// What a model remembers of one sequence. Copying forks it: fixed states are copied, pages of keys and values are
// shared until one of the two writes.
struct SequenceState {
  int64_t position = 0;  // tokens read
  std::vector<LayerState> layers;

  int64_t bytes() const;
};
struct SequenceStateGradient {
  std::vector<LayerStateGradient> layers;
};

struct Segment {
  int64_t begin = 0, length = 0;            // rows of the batch
  int64_t row = 0, row_begin = 0;           // row of the step (noise, budget) and the segment's offset in it
  const SequenceState* state_in = nullptr;  // null: a fresh sequence at position 0
  SequenceState* state_out = nullptr;       // null: not wanted; may be state_in
  int64_t position() const { return state_in ? state_in->position : 0; }
};

struct Batch {
  std::vector<int32_t> tokens;    // [T]
  std::vector<int32_t> targets;   // [T], -1: none; empty: none at all
  std::vector<float> weights;     // [T] of the loss; empty: all 1
  std::vector<Segment> segments;  // they tile [0, T)

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// The divisors of the whole step, of which this batch may be a part.
struct StepTotals {
  double targets = 0;                // sum of the weights of all labelled tokens
  std::vector<int64_t> row_lengths;  // tokens of each row of the step
};
StepTotals TotalsOf(const Batch& batch);  // of a step that is one batch

struct LossOptions {
  double budget = 0.15;      // C
  double budget_weight = 0;  // lambda
};

// Per-row sums of m of every SAL over the batches of a step so far.
struct BudgetSums {
  std::vector<std::vector<double>> m;  // [SAL][row]
};
// sum over SALs of the mean over rows of (budget - mean of m over the row's tokens)^2, unweighted.
double BudgetLoss(const BudgetSums& sums, const StepTotals& totals, double budget);

// What a kept forward leaves out and backward computes again, to save memory.
enum class Recompute {
  kNone,
  kMixer,  // of Mamba-2 blocks: convolution, SSD, gated norm
  kBlock,  // everything within a block; the residual stream at its entry stays
};

// Activations of one forward, kept for its backward. Reused from step to step.
class ForwardContext {
 public:
  ForwardContext();
  ~ForwardContext();
  ForwardContext(ForwardContext&&) noexcept;
  ForwardContext& operator=(ForwardContext&&) noexcept;

  void SetRecompute(Recompute recompute);        // of the forwards to come
  const std::vector<GateReport>& gates() const;  // of the last forward, one a SAL
  int64_t peak_bytes() const;

 private:
  friend class Model;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Model {
 public:
  explicit Model(ModelConfig config);  // zero weights

  const ModelConfig& config() const { return config_; }
  ModelParams& params() { return params_; }
  const ModelParams& params() const { return params_; }
  ModelParams NewGradients() const;  // zeros
  const std::vector<std::unique_ptr<Block>>& blocks() const { return blocks_; }

  // Weights as taipan-model.md describes them: N(0, initializer_range), residual projections scaled, A_log, dt_bias,
  // open gate.
  void Initialise(uint64_t seed, double gate_bias);

  // Element type of activations and matrix products: f32 (at first) or bf16, which needs copies of the linear weights.
  // RefreshCopies rounds them again after the weights have changed.
  void SetDType(DType dtype);
  DType dtype() const { return dtype_; }
  void RefreshCopies();

  SequenceState NewState() const;

  // Runs the blocks over the batch and updates outgoing states. keep: activations for Backward. Hidden rows (before the
  // final norm) stay in the context. Token ids are checked against the vocabulary (UserError).
  // after_block (tests): called with the residual stream after the embedding (-1) and after each block.
  void Forward(const Batch& batch, const GateOptions& gate, bool keep, ForwardContext& context,
               const std::function<void(int64_t, ConstMatrixView)>& after_block = nullptr) const;

  // Logits [rows.size(), V] of the given rows of the last forward.
  void Logits(ForwardContext& context, std::span<const int64_t> rows, MatrixView logits) const;
  // log p(target) [T] of the labelled rows of the last forward (0 elsewhere); returns the weighted sum of -log p.
  double Score(ForwardContext& context, const Batch& batch, float* logprobs) const;

  // Backward of the last kept forward: gradients of ce + lambda * budget_loss with the step's divisors are added to
  // grads; returns this batch's weighted sum of -log p. sums holds the whole step's sums of m (they must be known
  // before the first backward when lambda > 0 and a row is spread over batches). dstate_out / dstate_in: one a segment,
  // or empty. Null pointers: zero / dropped.
  double Backward(ForwardContext& context, const Batch& batch, const StepTotals& totals, const BudgetSums& sums,
                  const LossOptions& loss, const GateOptions& gate, ModelParams& grads,
                  std::span<const SequenceStateGradient* const> dstate_out = {},
                  std::span<SequenceStateGradient* const> dstate_in = {}) const;

 private:
  // Runs one block on h with the context's segments.
  void ForwardBlock(size_t index, const GateOptions& gate, bool keep, ForwardContext& context, Arena& results,
                    MatrixView h, GateReport* report, int64_t sal) const;
  void BlockAgain(size_t index, int64_t sal, const Batch& batch, const GateOptions& gate,
                  ForwardContext& context) const;
  double HeadBackward(ForwardContext& context, const Batch& batch, const StepTotals& totals, ModelParams& grads,
                      MatrixView dh) const;

  ModelConfig config_;
  DType dtype_ = DType::kF32;
  std::vector<std::unique_ptr<Block>> blocks_;
  ModelParams params_;
};

// Adds the sums of m of the context's last forward.
void AddBudgetSums(const ForwardContext& context, int64_t rows, BudgetSums& sums);

}  // namespace taipan
