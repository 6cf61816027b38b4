#include "train/layer_statistics.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/adamw.h"

namespace taipan {
namespace {

// 0 where the layer has no SSM state.
double MeanStateNorm(const std::vector<SequenceState>& states, size_t layer) {
  double sum = 0;
  for (const SequenceState& state : states) {
    const Tensor& ssm = state.layers[layer].ssm;
    sum += ssm.empty() ? 0 : std::sqrt(SquaredNorm(ssm.F32(), ssm.size()));
  }
  return sum / static_cast<double>(states.size());
}

void AddGate(const GateReport& gate, int64_t tokens, LayerStatistics& layer) {
  int64_t selected = 0;
  double alpha = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (gate.selected[t] == 0) continue;
    ++selected;
    alpha += gate.alpha[t];
  }
  layer.selected_share = static_cast<double>(selected) / static_cast<double>(tokens);
  if (selected > 0) layer.mean_alpha = alpha / static_cast<double>(selected);
}

}  // namespace

std::vector<LayerStatistics> MeasureLayers(const LanguageModel& model, Batch batch, const GateOptions& gate,
                                           ForwardContext& context) {
  std::vector<LayerStatistics> all(model.layers().size());
  std::vector<SequenceState> states(batch.segments.size());
  for (size_t i = 0; i < states.size(); ++i) batch.segments[i].state_out = &states[i];
  context.WatchTimeSteps(true);
  model.Forward(batch, gate, /*keep=*/false, context, [&](int64_t layer, ConstMatrixView h) {
    if (layer < 0) return;
    double squares = 0;
    for (int64_t row = 0; row < h.rows; ++row) squares += SquaredNorm(h.F32(row), h.cols);
    all[static_cast<size_t>(layer)].rms = std::sqrt(squares / static_cast<double>(h.rows * h.cols));
  });
  context.WatchTimeSteps(false);
  size_t sal = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const Layer& layer = model.layers()[i];
    all[i].kind = RowOf(layer.kind).name;
    if (const TimeStepReport& dt = context.time_steps()[i]; dt.count > 0) {
      all[i].dt_min = dt.least;
      all[i].dt_mean = dt.mean;
      all[i].dt_max = dt.most;
      all[i].state_norm = MeanStateNorm(states, i);
    }
    for (const auto& branch : layer.branches) {
      if (branch->selective()) AddGate(context.gates()[sal++], batch.size(), all[i]);
    }
  }
  return all;
}

std::string ToJsonLine(int64_t step, const std::vector<LayerStatistics>& layers) {
  nlohmann::ordered_json line = {{"step", step}, {"layers", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerStatistics& l = layers[i];
    nlohmann::ordered_json one = {{"layer", i}, {"kind", l.kind}, {"rms", l.rms}};
    for (const auto& [name, value] : {std::pair("state_norm", l.state_norm),
                                      {"dt_min", l.dt_min},
                                      {"dt_mean", l.dt_mean},
                                      {"dt_max", l.dt_max},
                                      {"selected_share", l.selected_share},
                                      {"mean_alpha", l.mean_alpha}}) {
      if (value) one[name] = *value;
    }
    line["layers"].push_back(std::move(one));
  }
  return line.dump() + "\n";
}

}  // namespace taipan
