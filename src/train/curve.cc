#include "train/curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numbers>

#include "base/files.h"
#include "base/plot.h"

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

void WriteCurve(const MetricsHistory& history, double bytes_per_token, const TrainSettings& settings,
                const std::string& path) {
  if (history.step.empty()) return;
  constexpr size_t kPoints = 200;  // of 800 pixels: a mean every four pixels
  const bool bytes = bytes_per_token > 0;
  const double scale = 1 / std::numbers::ln2 / (bytes ? bytes_per_token : 1.0);  // from nats a token
  std::vector<PlotSeries> series;
  const auto add = [&](const std::string& name, std::vector<double> x, std::vector<double> y, double factor) {
    for (double& value : y) value *= factor;
    Smooth(x, y, kPoints);
    series.push_back({name, std::move(x), std::move(y)});
  };
  add("training", history.step, history.ce, scale);
  if (!history.valid_step.empty()) add("validation", history.valid_step, history.valid_ce, scale);
  for (size_t i = 0; i < history.selected_share.size(); ++i) {
    add(fmt::format("selected share, SAL {}", i + 1), history.step, history.selected_share[i], 1);
  }
  PlotOptions options;
  options.title = std::filesystem::path(settings.model).filename().string();
  options.x_label = "step";
  options.y_label = bytes ? "bits/byte" : "bits/token";
  WriteFileAtomically(path, SvgPlot(series, options));
}

}  // namespace taipan
