#include "train/run_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace taipan {
namespace {

std::string Shares(const std::vector<double>& shares) {
  std::string text;
  for (double share : shares) text += fmt::format(" {:.2f}", share);
  return text;
}

}  // namespace

RunProgress::RunProgress(const TrainSettings& settings, double bytes_per_token, int64_t first_step,
                         double seconds_before, Roof roof)
    : settings_(settings),
      bytes_per_token_(bytes_per_token),
      first_step_(first_step),
      seconds_before_(seconds_before),
      measure_(std::move(roof)),
      roof_(measure_ ? measure_(/*again=*/false) : 0) {}

void RunProgress::KeepBelowRoof(double tokens_per_second) {
  if (roof_ == 0 || tokens_per_second <= roof_) return;
  if (measure_) roof_ = measure_(/*again=*/true);
  measure_ = nullptr;
  roof_ = std::max(roof_, tokens_per_second);
}

void RunProgress::Show(const StepMetrics& m) {
  KeepBelowRoof(m.tokens_per_second);
  line_.Update(Parts(m));
}

// Importance: what 80 columns, and fewer, must show comes first.
std::vector<ProgressPart> RunProgress::Parts(const StepMetrics& m) const {
  const double bits = m.ce / std::numbers::ln2;
  // Steps of this part of the run cost about the same, so their mean tells how long the rest takes.
  const double spent = m.seconds - seconds_before_;
  const double a_step = spent / static_cast<double>(m.step - first_step_);
  double left = a_step * static_cast<double>(settings_.steps - m.step);
  if (settings_.time_limit > 0) left = std::min(left, std::max(0.0, settings_.time_limit - spent));
  std::vector<ProgressPart> parts = {{fmt::format("step {}/{}", m.step, settings_.steps), 9},
                                     {fmt::format("loss {:.3f}", m.ce), 5},
                                     {bytes_per_token_ > 0 ? fmt::format("{:.3f} bits/byte", bits / bytes_per_token_)
                                                           : fmt::format("{:.3f} bits/token", bits),
                                      8}};
  if (!m.selected_share.empty()) parts.push_back({"selected" + Shares(m.selected_share), 4});
  parts.push_back({fmt::format("|g| {:.3g}", m.grad_norm), 2});
  parts.push_back({fmt::format("lr {:.2e}", m.lr), 3});
  parts.push_back({FormatCount(std::llround(m.tokens_per_second)) + " tokens/s", 6});
  if (roof_ > 0) parts.push_back({fmt::format("{:.0f}% of roof", 100 * m.tokens_per_second / roof_), 1});
  parts.push_back({FormatDuration(left) + " left", 7});
  return parts;
}

std::string SkippedLine(const StepMetrics& m) {
  return fmt::format("step {}: a spike, skipped (loss {:.4g}, gradient norm {:.4g})", m.step, m.ce, m.grad_norm);
}

std::string ValidationLine(const ValidMetrics& m) {
  std::string line = fmt::format("step {}: valid{}", m.step, m.source.empty() ? "" : " " + m.source + ":");
  if (std::isfinite(m.bits_per_byte)) line += fmt::format(" {:.3f} bits/byte,", m.bits_per_byte);
  line += fmt::format(" {:.3f} nats a token over {} tokens", m.ce, m.tokens);
  if (m.selected_share.empty()) return line;
  line += "; selected" + Shares(m.selected_share);
  return m.selected_share_noise == m.selected_share ? line : line + ", with noise" + Shares(m.selected_share_noise);
}

}  // namespace taipan
