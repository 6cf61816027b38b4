#pragma once
// Learning-rate range test (Smith, 2017): a short run whose rate rises from far too small to far too large shows which
// rates a model learns at.

#include <string>
#include <vector>

#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

struct RateRange {
  std::vector<double> rate, loss;  // nats a token, smoothed
  double lowest = 0;               // the rate at the lowest loss
  double steepest = 0;             // where the loss falls fastest over the logarithm of the rate
  bool over = false;               // the loss is a nat above its lowest: larger rates say no more
};
RateRange RangeOf(const MetricsHistory& history, const TrainSettings& settings);

// "the loss fell fastest at a learning rate of ..."
std::string Describe(const RateRange& range);

// RUN_DIR/lr-range.svg.
void DrawRange(const RateRange& range, const std::string& path);

}  // namespace taipan
