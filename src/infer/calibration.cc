#include "infer/calibration.h"

#include "infer/scoring.h"
#include "infer/sequence_reader.h"
#include "model/selection.h"

namespace taipan {
namespace {

constexpr double kLeast = 20;  // tokens above and below a quantile: its share is then within a third, mostly

void CheckAsksGates(const ModelConfig& config, const std::string& where) {
  if (config.num_sals() == 0) {
    throw UserError({where, "the model has no selective attention layers", "a model with some", "none"});
  }
  if (config.selection != Selection::kArgmax && config.selection != Selection::kThreshold) {
    throw UserError(
        {where, "the model's selection does not ask its gates", "argmax or threshold", NameIn(config.selection)});
  }
}

void CheckIsEnough(int64_t tokens, double budget, const std::string& where) {
  const double least = kLeast / std::min(budget, budget < 1 ? 1 - budget : 1.0);
  if (static_cast<double>(tokens) < least) {
    throw UserError({where, fmt::format("too few tokens for a quantile at {}", budget),
                     fmt::format("at least {:.0f}", std::ceil(least)), std::to_string(tokens)});
  }
}

// Margins [SAL][tokens] of a text read in one go.
std::vector<std::vector<float>> MarginsOf(const LanguageModel& model, std::span<const int32_t> tokens,
                                          const std::function<void(int64_t)>& on_progress) {
  const GateOptions gate = InferenceGate(model.config());
  SequenceState state = model.NewState();
  ForwardContext context;
  std::vector<std::vector<float>> margins(static_cast<size_t>(model.config().num_sals()));
  ForEachPiece(0, static_cast<int64_t>(tokens.size()), PieceLength(model.config()), [&](int64_t begin, int64_t count) {
    Batch batch;
    batch.tokens.assign(tokens.begin() + begin, tokens.begin() + begin + count);
    batch.segments.assign(1, Segment{.begin = 0, .length = count, .state_in = &state, .state_out = &state});
    model.Forward(batch, gate, /*keep=*/false, context);
    for (size_t s = 0; s < margins.size(); ++s) {
      const float* m = context.gates()[s].margin;
      margins[s].insert(margins[s].end(), m, m + count);
    }
    if (on_progress) on_progress(begin + count);
  });
  return margins;
}

}  // namespace

SelectionQuantiles Calibrate(LanguageModel& model, std::span<const int32_t> tokens, double budget,
                             const std::string& where, const std::function<void(int64_t)>& on_progress) {
  const auto n = static_cast<int64_t>(tokens.size());
  CheckAsksGates(model.config(), where);
  CheckIsEnough(n, budget, where);
  CheckTokenIds(tokens, model.config().vocab_size, where);
  const auto sals = static_cast<size_t>(model.config().num_sals());
  SelectionQuantiles result;
  result.tokens = n;
  for (int percent = 1; percent <= 100; ++percent) result.shares.push_back(percent / 100.0);
  std::vector<double> thresholds = model.config().selection_threshold;
  thresholds.resize(sals);
  for (size_t s = 0; s < sals; ++s) {
    std::vector<float> margins = std::move(MarginsOf(model, tokens, [&](int64_t done) {
      if (on_progress) on_progress(static_cast<int64_t>(s) * n + done);
    })[s]);
    std::vector<double>& of_sal = result.margins.emplace_back();
    for (const double share : result.shares) of_sal.push_back(MarginQuantile(margins, share));
    thresholds[s] = MarginQuantile(margins, budget);
    model.SetSelectionThreshold(thresholds);
  }
  return result;
}

void UseBudget(LanguageModel& model, const std::string& directory, double budget) {
  CheckAsksGates(model.config(), directory);
  model.SetSelectionThreshold(LoadSelectionQuantiles(directory, model.config().num_sals()).ThresholdsAt(budget));
}

}  // namespace taipan
