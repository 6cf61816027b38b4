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
                         double seconds_before, double roof)
    : settings_(settings),
      bytes_per_token_(bytes_per_token),
      first_step_(first_step),
      seconds_before_(seconds_before),
      roof_(roof) {}

void RunProgress::Show(const StepMetrics& m) { line_.Update(Line(m)); }

std::string RunProgress::Line(const StepMetrics& m) const {
  const double bits = m.ce / std::numbers::ln2;
  // Steps of this part of the run cost about the same, so their mean tells how long the rest takes.
  const double spent = m.seconds - seconds_before_;
  const double a_step = spent / static_cast<double>(m.step - first_step_);
  double left = a_step * static_cast<double>(settings_.steps - m.step);
  if (settings_.time_limit > 0) left = std::min(left, std::max(0.0, settings_.time_limit - spent));
  std::string line = fmt::format("step {}/{}  loss {:.3f}", m.step, settings_.steps, m.loss);
  line += bytes_per_token_ > 0 ? fmt::format("  {:.3f} bits/byte", bits / bytes_per_token_)
                               : fmt::format("  {:.3f} bits/token", bits);
  if (!m.selected_share.empty()) line += "  selected" + Shares(m.selected_share);
  line += fmt::format("  |g| {:.3g}  lr {:.2e}  {} tokens/s", m.grad_norm, m.lr,
                      FormatCount(std::llround(m.tokens_per_second)));
  if (roof_ > 0) line += fmt::format("  {:.0f}% of roof", 100 * m.tokens_per_second / roof_);
  return line + "  " + FormatDuration(left) + " left";
}

std::string ValidationLine(const ValidMetrics& m) {
  std::string line = fmt::format("step {}: valid", m.step);
  if (std::isfinite(m.bits_per_byte)) line += fmt::format(" {:.3f} bits/byte,", m.bits_per_byte);
  line += fmt::format(" {:.3f} nats a token over {} tokens", m.ce, m.tokens);
  if (m.selected_share.empty()) return line;
  return line + "; selected" + Shares(m.selected_share) + ", with noise" + Shares(m.selected_share_noise);
}

}  // namespace taipan
