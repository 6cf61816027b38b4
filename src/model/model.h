#pragma once
// The model: embedding, blocks, final norm, head; one forward over segments and its backward, for training, packed
// documents, chunked prefill, batched and single-token decoding alike.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layers/selective_attention.h"
#include "model/config.h"
#include "model/layer_table.h"
#include "model/load_options.h"
#include "model/loss.h"
#include "model/parameters.h"

namespace taipan {

class MappedFile;

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
  bool rows_alone = false;        // products give each row the bits that it has alone: for a few rows a segment
  // Segments that may turn out to be longer than wanted: each row has the bits of a step, and state_in stays as it is
  // until Advance; no state_out. With rows_alone.
  bool ahead = false;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// Called during a backward when it adds nothing more to a part's gradients: layers().size() after the head's (the final
// norm, and lm_head where it is a matrix of its own), i after layer i's, -1 after the embedding's.
using GradientsDone = std::function<void(int64_t part)>;

// How the Selective Attention Layers choose tokens in a call.
struct GateOptions {
  SelectionRule rule = SelectionRule::kMargin;
  double share = 0;  // kRandom, kPeriodic
  GateNoise noise = GateNoise::kNone;
  uint64_t seed = 0;  // kCounter, kRandom: with the step, the SAL's index, row and position in the row
  uint32_t step = 0;
  bool by_position = false;         // kRandom: by the position in the sequence instead of the row and that in it
  std::vector<const float*> given;  // kGiven: [T, 2] a SAL
  float tau = 1.0f;
  std::vector<float> delta;  // threshold a SAL; empty: 0
  bool attend_all = false;   // straight_through "all": attention for every token, masked
};

// What a kept forward leaves out and backward computes again, to save memory.
enum class Recompute {
  kNone,
  kMixer,  // of Mamba-2 blocks: convolution, SSD, gated norm
  kBlock,  // everything within a block; the residual stream at its entry stays
};
inline std::vector<std::string> NamesOf(Recompute) { return {"none", "mixer", "block"}; }

// The last forward: its batch, its hidden rows and, where kept, the activations for its backward. Reused from step to
// step.
class ForwardContext {
 public:
  ForwardContext();
  ~ForwardContext();
  ForwardContext(ForwardContext&&) noexcept;
  ForwardContext& operator=(ForwardContext&&) noexcept;

  void SetRecompute(Recompute recompute);                         // of the forwards to come
  const std::vector<GateReport>& gates() const;                   // of the last forward, one a SAL
  const std::vector<GateGradientReport>& gate_gradients() const;  // of the last backward, one a SAL
  void WatchTimeSteps(bool watch);                                // of the forwards to come
  const std::vector<TimeStepReport>& time_steps() const;          // of the last forward, one a layer, where watched
  int64_t peak_bytes() const;

 private:
  friend class LanguageModel;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class LanguageModel {
 public:
  explicit LanguageModel(ModelConfig config);  // declares the weights; none is bound

  const ModelConfig& config() const { return config_; }
  void SetSelectionThreshold(std::vector<double> threshold);  // one a SAL; none: 0
  ModelParams& params() { return params_; }
  const ModelParams& params() const { return params_; }
  ModelParams NewGradients() const;  // zeros
  const std::vector<Layer>& layers() const { return layers_; }

  // Weights as taipan-model.md describes them: N(0, initializer_range), residual projections scaled, A_log, dt_bias,
  // open gate.
  void Initialise(uint64_t seed, double gate_bias, Binding binding = Binding::kMasters);

  // Element type of activations and matrix products: f32 (at first) or bf16, for which weights in f32 get copies.
  // RefreshCopies rounds them again after the weights have changed.
  void SetDType(DType dtype);
  DType dtype() const { return dtype_; }
  // How keys and values are kept, and seen by attention, in forwards that keep nothing for a backward: f32, bf16, or
  // int8 with a scale for each token and head. As they are computed (dtype) unless it was set.
  void SetKvDType(DType dtype);
  DType kv_dtype() const { return kv_dtype_.value_or(dtype_); }
  void RefreshCopies();
  // Whether products read it: the embedding is one where it is the head, too.
  bool IsProduct(const Weight& weight) const;
  // UserError where weights are in memory as bf16 alone: what saves or exports them needs f32.
  void RequireF32(const char* what) const;
  // The same where their f32 is not ours to change.
  void RequireMasters(const char* what) const;

  // Weights are views of this file: every forward checks that nobody has written to it.
  void KeepFile(std::shared_ptr<const MappedFile> file);

  SequenceState NewState() const;

  // Runs the layers over the batch and updates outgoing states. keep: activations for Backward. Hidden rows (before the
  // final norm) stay in the context. Token ids are checked against the vocabulary (UserError).
  // after_layer (tests): called with the residual stream after the embedding (-1) and after each layer.
  void Forward(const Batch& batch, const GateOptions& gate, bool keep, ForwardContext& context,
               const std::function<void(int64_t, ConstMatrixView)>& after_layer = nullptr) const;

  // After a forward of a batch that was `ahead`: rows [begin, begin + count) are read into the state that the rows
  // before them led to, bit for bit as in steps.
  void Advance(ForwardContext& context, int64_t begin, int64_t count, SequenceState& state) const;

  // Of the last forward: logits [rows.size(), V] of the given rows.
  void Logits(ForwardContext& context, std::span<const int64_t> rows, MatrixView logits) const;
  // log p(target) [T] of the labelled rows (0 elsewhere); returns the weighted sum of -log p.
  double Score(ForwardContext& context, float* logprobs) const;

  // Backward of the last, kept forward: gradients of ce + lambda * budget_loss with the step's divisors are added to
  // grads; returns its batch's weighted sum of -log p. sums holds the whole step's sums of m (they must be known
  // before the first backward when lambda > 0 and a row is spread over batches). dstate_out / dstate_in: one a segment,
  // or empty. Null pointers: zero / dropped.
  double Backward(ForwardContext& context, const StepTotals& totals, const BudgetSums& sums, const LossOptions& loss,
                  ModelParams& grads, std::span<const SequenceStateGradient* const> dstate_out = {},
                  std::span<SequenceStateGradient* const> dstate_in = {}, const GradientsDone& done = nullptr) const;

 private:
  // Runs one layer on h with the context's segments.
  void ForwardLayer(size_t index, Keep keep, ForwardContext& context, Arena& results, MatrixView h) const;
  void LayerAgain(size_t index, ForwardContext& context) const;
  void FinalNorm(ConstMatrixView h, MatrixView normed, float* inv_rms) const;  // over logits_scaling
  void CheckFiles() const;
  double HeadBackward(ForwardContext& context, const StepTotals& totals, ModelParams& grads, MatrixView dh) const;

  ModelConfig config_;
  DType dtype_ = DType::kF32;
  std::optional<DType> kv_dtype_;
  std::vector<Layer> layers_;
  std::vector<int64_t> first_sal_;  // a layer each: SALs before it
  ModelParams params_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
};

}  // namespace taipan
