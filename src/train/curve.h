#pragma once
// The picture of a run: training and validation loss, and the selected share of each SAL, over the steps.

#include <string>

#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

// Means of `values` over runs of neighbours, at most `points` of them, so that a long noisy series can be drawn; `at`
// shrinks with it.
void Smooth(std::vector<double>& at, std::vector<double>& values, size_t points);

// SVG documents, of a history that has steps: the loss alone, the selected shares alone.
std::string LossChart(const MetricsHistory& history, double bytes_per_token, int width, int height);
std::string ShareChart(const MetricsHistory& history, int width, int height);

// Writes curve.svg. bytes_per_token 0: the loss is shown in bits a token. Nothing is written before the first step.
void WriteCurve(const MetricsHistory& history, double bytes_per_token, const TrainSettings& settings,
                const std::string& path);

}  // namespace taipan
