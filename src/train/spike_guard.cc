#include "train/spike_guard.h"

#include <algorithm>
#include <cmath>

namespace taipan {
namespace {

// Where steps hardly differ, as in a test on constant data, a hundredth of the mean counts as the deviation.
constexpr double kLeastDeviation = 0.01;

bool FarAbove(const std::vector<double>& window, double value, double deviations) {
  if (window.size() < SpikeGuard::kLeast) return false;
  double sum = 0, squares = 0;
  for (const double v : window) sum += v;
  const double n = static_cast<double>(window.size()), mean = sum / n;
  for (const double v : window) squares += (v - mean) * (v - mean);
  const double deviation = std::max(std::sqrt(squares / n), kLeastDeviation * std::abs(mean));
  return value > mean + deviations * deviation;
}

void Append(std::vector<double>& window, double value) {
  if (window.size() == SpikeGuard::kWindow) window.erase(window.begin());
  window.push_back(value);
}

}  // namespace

bool SpikeGuard::Take(double loss, double gradient_norm) {
  SpikeWindow& w = window_;
  const bool spike = !std::isfinite(loss) || !std::isfinite(gradient_norm) || FarAbove(w.losses, loss, deviations_) ||
                     FarAbove(w.norms, gradient_norm, deviations_);
  if (spike) {
    ++w.in_a_row;
    ++w.skipped;
    return false;
  }
  w.in_a_row = 0;
  Append(w.losses, loss);
  Append(w.norms, gradient_norm);
  return true;
}

void SpikeGuard::Forget() {
  window_.losses.clear();
  window_.norms.clear();
  window_.in_a_row = 0;
}

}  // namespace taipan
