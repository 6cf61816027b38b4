#pragma once
// What a run's folder says about the run, finished or not: for comparisons.

#include <optional>
#include <string>
#include <vector>

#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

struct RunSummary {
  std::string name;  // of the folder
  TrainSettings settings;
  std::optional<ModelConfig> config;  // of the newest model; none before it was written
  std::string data;                   // data.json: the same text, the same data and tokenizer; "" where there is none
  std::vector<StepMetrics> steps;
  std::vector<ValidMetrics> valid;

  bool finished() const { return !steps.empty() && steps.back().step >= settings.steps; }
  double MeanLoss(size_t last) const;          // ce of the last steps, nats a token; NaN before the first step
  const ValidMetrics* BestValidation() const;  // null without one
  double MedianTokensPerSecond() const;        // NaN before the first step
  // 0 where no validation tells it.
  double BytesPerToken() const;
};

// Reads run.json and metrics.jsonl; a line that is being written is left out. UserError where the folder holds no run.
RunSummary ReadRun(const std::string& folder);

// Where the runs differ in what makes their figures comparable: "context: 256, 512", one entry a difference.
std::vector<std::string> DifferencesOf(const std::vector<RunSummary>& runs);

}  // namespace taipan
