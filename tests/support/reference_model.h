#pragma once
// The model once more, plainly: double precision, token after token, dense loops, no code shared with the engine but
// the config. With frozen gate decisions the training loss is a smooth function of the weights, so that its central
// differences check the engine's gradients.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/model.h"
#include "support/step_runs.h"

namespace taipan::test {

using Row = std::vector<double>;

struct ReferenceLayerState {
  Row ssm;                              // [H, P, N]
  std::vector<Row> conv, keys, values;  // conv: the last W-1 inputs; keys and values of every position
};
struct ReferenceState {
  int64_t position = 0;
  std::vector<ReferenceLayerState> layers;
};

// What the gate of one SAL computed for a run of tokens.
struct ReferenceGate {
  Row margin, alpha, hard, soft;  // [n]
};
struct ReferenceOptions {
  const std::vector<ReferenceGate>* frozen = nullptr;  // decisions, m_soft of the base point; null: inference
  bool straight_through_all = false;
  double tau = 1;
  Row delta;                        // [SAL] thresholds; empty: 0
  std::vector<const float*> noise;  // [SAL] -> [n, 2]; empty: none
};
struct ReferenceOutput {
  std::vector<Row> logits;  // [n][V]
  std::vector<ReferenceGate> gates;
};

class ReferenceModel {
 public:
  explicit ReferenceModel(const ModelConfig& config, LanguageModel& weights_from);

  std::map<std::string, Row>& weights() { return weights_; }
  ReferenceState NewState() const;
  ReferenceOutput Run(const std::vector<int32_t>& tokens, ReferenceState& state, const ReferenceOptions& options) const;

 private:
  struct Token;
  const Row& W(int64_t layer, const char* name) const;
  Row Norm(const Row& x, const Row& weight) const;
  Row Projected(int64_t layer, const Row& u) const;
  Row GroupNorm(const Row& v, const Row& gain) const;
  Row Mamba2(int64_t layer, const Row& u, ReferenceLayerState& state) const;
  Row Attend(int64_t layer, const Row& u, int64_t window, int64_t position, ReferenceLayerState& state) const;
  Row Mlp(int64_t layer, const Row& h) const;
  Row Relu2Mlp(int64_t layer, const Row& h) const;
  Row Plain(int64_t layer, const Row& h, int64_t position, ReferenceLayerState& state) const;
  Row Selective(int64_t layer, const Row& h, const Token& token, ReferenceLayerState& state, ReferenceGate& gate) const;
  double Stretched(double frequency) const;  // by rope_scaling
  void Rope(Row& x, int64_t position) const;

  ModelConfig config_;
  std::map<std::string, Row> weights_;
};

// The base point of a step: the gates' decisions of every piece and the state it starts from, both held fixed.
struct FrozenPiece {
  int64_t begin = 0, length = 0;
  ReferenceState start;
  std::vector<ReferenceGate> gates;
};
struct FrozenStep {
  std::vector<std::vector<std::vector<FrozenPiece>>> documents;  // [row][document][piece]
};
// Cuts documents into pieces of at most `piece` tokens (0: whole); each piece's start state is a constant afterwards.
FrozenStep Freeze(const ReferenceModel& model, const StepSpec& spec, int64_t piece = 0);
// ce + lambda * budget loss at the weights that the model has now.
double ReferenceLoss(const ReferenceModel& model, const StepSpec& spec, const FrozenStep& frozen);

}  // namespace taipan::test
