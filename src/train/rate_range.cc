#include "train/rate_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "plot/plot.h"
#include "train/schedule.h"

namespace taipan {
namespace {

constexpr double kSmoothing = 0.9;  // what a step leaves of the mean: about ten steps are in it

// The place of the most negative slope, over a tenth of the range at a time: single steps are noise.
double Steepest(const RateRange& r, size_t lowest) {
  const size_t n = r.rate.size(), span = std::max<size_t>(1, n / 10);
  double best = 0, rate = r.rate[lowest];
  for (size_t i = span; i <= lowest; ++i) {
    const double slope = (r.loss[i] - r.loss[i - span]) / std::log(r.rate[i] / r.rate[i - span]);
    if (slope >= best) continue;
    best = slope;
    rate = std::sqrt(r.rate[i] * r.rate[i - span]);
  }
  return rate;
}

}  // namespace

RateRange RangeOf(const MetricsHistory& history, const TrainSettings& settings) {
  RateRange r;
  double sum = 0, weight = 0;
  for (size_t i = 0; i < history.step.size(); ++i) {
    r.rate.push_back(LearningRate(settings, static_cast<int64_t>(history.step[i])));
    sum = kSmoothing * sum + (1 - kSmoothing) * history.ce[i];
    weight = kSmoothing * weight + (1 - kSmoothing);
    r.loss.push_back(sum / weight);
  }
  if (r.rate.empty()) return r;
  const auto lowest = static_cast<size_t>(std::min_element(r.loss.begin(), r.loss.end()) - r.loss.begin());
  r.lowest = r.rate[lowest];
  r.steepest = Steepest(r, lowest);
  r.over = r.loss.back() > r.loss[lowest] + 1;
  return r;
}

std::string Describe(const RateRange& range) {
  return fmt::format(
      "the loss fell fastest at a learning rate of {:.2g} and was lowest at {:.2g}: try peaks between them",
      range.steepest, range.lowest);
}

void DrawRange(const RateRange& range, const std::string& path) {
  PlotOptions options;
  options.title = "learning-rate range test";
  options.x_label = "learning rate";
  options.y_label = "nats a token";
  options.log_x = true;
  WriteFileAtomically(path, SvgPlot({{.name = "training loss", .x = range.rate, .y = range.loss}}, options));
}

}  // namespace taipan
