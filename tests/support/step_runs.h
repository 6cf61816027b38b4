#pragma once
// A training step in any division into batches and pieces, and its losses and gradients: for comparing such runs.

#include <string>
#include <vector>

#include "model/model.h"

namespace taipan::test {

struct Document {
  std::vector<int32_t> tokens, targets;  // targets: -1 none
};
// Targets are the tokens shifted by one; the last token has none.
Document NextTokenDocument(const std::vector<int32_t>& tokens);

// Tokens are counted row after row, document after document: "flat" order.
struct StepSpec {
  std::vector<std::vector<Document>> rows;
  std::vector<std::vector<float>> noise;  // [SAL][2 * flat]; empty: gate.noise decides
  std::vector<float> weights;             // [flat]; empty: all 1
  GateOptions gate;
  LossOptions loss;

  int64_t tokens() const;
  StepTotals totals() const;
};

struct StepPiece {
  int64_t row = 0, document = 0, begin = 0, length = 0;  // begin: in the document
};
// One inner list is one batch: its segments in this order. A document's pieces stand in order in different batches.
using StepPlan = std::vector<std::vector<StepPiece>>;

StepPlan WholeStep(const StepSpec& spec);                    // one batch
StepPlan RowByRow(const StepSpec& spec);                     // a batch a row
StepPlan DocumentByDocument(const StepSpec& spec);           // a batch a document
StepPlan StepInPieces(const StepSpec& spec, uint64_t seed);  // documents cut at random, the k-th pieces together

enum class StateGradients { kExact, kDropped };

struct NamedGradient {
  std::string name;
  bool decay = false;
  std::vector<int64_t> shape;  // as in files
  std::vector<float> values;
};
struct SalValues {
  std::vector<uint8_t> selected;     // [flat]
  std::vector<float> margin, alpha;  // [flat]
};
struct StepOutcome {
  double nll = 0;  // weighted sum of -log p
  double ce = 0, budget_loss = 0, total = 0, grad_norm = 0;
  std::vector<SalValues> sals;
  BudgetSums sums;
  std::vector<NamedGradient> gradients;

  const NamedGradient& Of(const std::string& name) const;
};

// Forward of all batches in order, then backward in reverse order, the states' gradients handed back or dropped.
StepOutcome RunStep(const LanguageModel& model, const StepSpec& spec, const StepPlan& plan,
                    StateGradients carry = StateGradients::kExact);

double Norm(const std::vector<float>& x);
double DistanceOf(const std::vector<float>& a, const std::vector<float>& b);  // Frobenius norm of the difference
// "" or the first tensor whose gradient is further from `expected` than its bound [tensor].
std::string CompareGradients(const StepOutcome& expected, const StepOutcome& actual, const std::vector<double>& bounds);

// What f32 arithmetic costs each gradient, as TraceTolerance measures it: 16 times the largest change (Frobenius) when
// every weight moves by +-2^-23, plus 2^-20 of the norm of the whole gradient. Empty where a selection is a near-tie:
// the perturbed weights chose otherwise.
std::vector<double> GradientBounds(const ModelConfig& config, uint64_t weight_seed, const StepSpec& spec);

// A step of `rows` rows with one to `documents` documents of 1 to `length` tokens each, Gumbel noise given, lambda > 0,
// with or without weights of the targets, in either straight-through mode.
StepSpec RandomStep(const ModelConfig& config, int64_t rows, int64_t documents, int64_t length, uint64_t seed);

}  // namespace taipan::test
