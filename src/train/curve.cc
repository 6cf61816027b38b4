#include "train/curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numbers>
#include <optional>

#include "base/files.h"
#include "plot/plot.h"

namespace taipan {

void Smooth(std::vector<double>& at, std::vector<double>& values, size_t points) {
  const size_t n = values.size(), group = (n + points - 1) / points;
  if (group <= 1) return;
  size_t out = 0;
  for (size_t begin = 0; begin < n; begin += group, ++out) {
    const size_t end = std::min(n, begin + group);
    double sum_at = 0, sum = 0;
    for (size_t i = begin; i < end; ++i) {
      sum_at += at[i];
      sum += values[i];
    }
    at[out] = sum_at / static_cast<double>(end - begin);
    values[out] = sum / static_cast<double>(end - begin);
  }
  at.resize(out);
  values.resize(out);
}

namespace {

constexpr size_t kPoints = 200;  // of 800 pixels: a mean every four pixels

// The first steps fall from ln V; were they in the range, the rest of the run would be a flat line. None: a short run.
std::optional<double> TopOfLoss(const std::vector<double>& values) {
  const size_t first = values.size() / 20;
  if (first == 0) return std::nullopt;
  return *std::max_element(values.begin() + static_cast<std::ptrdiff_t>(first), values.end());
}

void Add(PlotSeries s, double factor, std::vector<PlotSeries>& series) {
  for (double& value : s.y) value *= factor;
  Smooth(s.x, s.y, kPoints);
  series.push_back(std::move(s));
}

void AddLoss(const MetricsHistory& history, double scale, std::vector<PlotSeries>& series) {
  Add({.name = "training", .x = history.step, .y = history.ce, .color = 0}, scale, series);
  if (history.valid_step.empty()) return;
  Add({.name = "validation", .x = history.valid_step, .y = history.valid_ce, .color = 1}, scale, series);
}

void AddShares(const MetricsHistory& history, bool right, int first_color, std::vector<PlotSeries>& series) {
  for (size_t i = 0; i < history.selected_share.size(); ++i) {
    const int color = static_cast<int>(i) + first_color;
    const std::string name = fmt::format("selected, SAL {}", i + 1);
    Add({.name = name + " with noise",
         .x = history.step,
         .y = history.selected_share[i],
         .right = right,
         .faint = true,
         .color = color},
        1, series);
    // Runs of earlier versions lack it in some lines.
    if (i >= history.valid_selected_share.size()) continue;
    const std::vector<double>& share = history.valid_selected_share[i];
    if (share.empty() || share.size() != history.valid_step.size()) continue;
    Add({.name = name, .x = history.valid_step, .y = share, .right = right, .color = color}, 1, series);
  }
}

double ScaleOf(double bytes_per_token) {  // from nats a token
  return 1 / std::numbers::ln2 / (bytes_per_token > 0 ? bytes_per_token : 1.0);
}
const char* UnitOf(double bytes_per_token) { return bytes_per_token > 0 ? "bits/byte" : "bits/token"; }

}  // namespace

std::string LossChart(const MetricsHistory& history, double bytes_per_token, int width, int height) {
  std::vector<PlotSeries> series;
  AddLoss(history, ScaleOf(bytes_per_token), series);
  PlotOptions options{.title = "Loss", .x_label = "step", .y_label = UnitOf(bytes_per_token)};
  options.y_max = TopOfLoss(series[0].y);
  return SvgPlot(series, options, width, height);
}

std::string ShareChart(const MetricsHistory& history, int width, int height) {
  std::vector<PlotSeries> series;
  AddShares(history, /*right=*/false, 0, series);
  return SvgPlot(series, {.title = "Selected share of tokens", .x_label = "step"}, width, height);
}

void WriteCurve(const MetricsHistory& history, double bytes_per_token, const TrainSettings& settings,
                const std::string& path) {
  if (history.step.empty()) return;
  std::vector<PlotSeries> series;
  AddLoss(history, ScaleOf(bytes_per_token), series);
  PlotOptions options;
  options.y_max = TopOfLoss(series[0].y);
  AddShares(history, /*right=*/true, 2, series);
  options.title = std::filesystem::path(settings.model).filename().string();
  options.x_label = "step";
  options.y_label = UnitOf(bytes_per_token);
  options.right_label = "selected share";
  WriteFileAtomically(path, SvgPlot(series, options));
}

}  // namespace taipan
