#pragma once
// What the layers of a model are like at a step: a line of metrics.jsonl.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"

namespace taipan {

struct LayerStatistics {
  std::string kind;                       // as in layer_pattern
  double rms = 0;                         // of the residual stream behind it
  std::optional<double> state_norm = {};  // of the SSM state at the end of a document, the mean over documents
  std::optional<double> dt_min = {}, dt_mean = {}, dt_max = {};
  std::optional<double> selected_share = {};
  std::optional<double> mean_alpha = {};  // over the selected tokens
};

// By one forward over the batch, whose segments begin fresh.
std::vector<LayerStatistics> MeasureLayers(const LanguageModel& model, Batch batch, const GateOptions& gate,
                                           ForwardContext& context);

// {"step": 7, "layers": [{"layer": 0, "kind": "mamba2", ...}, ...]}, with the line feed.
std::string ToJsonLine(int64_t step, const std::vector<LayerStatistics>& layers);

}  // namespace taipan
