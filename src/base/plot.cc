#include "base/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/plot_internal.h"

namespace taipan {
namespace {

// The shortest text at the precision that tells neighbours `step` apart; never "-0".
std::string TickLabel(double value, double step) {
  if (std::abs(value) < step * 1e-6) return "0";
  const double largest = std::max(std::abs(value), step);
  if (largest >= 1e6 || largest < 1e-4) {
    const int digits = std::max(0, static_cast<int>(std::floor(std::log10(largest) + 1e-9)) -
                                       static_cast<int>(std::floor(std::log10(step) + 1e-9)));
    return fmt::format("{:.{}e}", value, digits);
  }
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

// Room around the points. One value alone gets room too, in proportion to its size.
void Widen(double& low, double& high, double share) {
  if (!(low < high)) {
    const double room = std::max(std::abs(low) * 0.1, 1e-300);
    low -= low == 0 ? 1 : room;
    high += high == 0 ? 1 : room;
    return;
  }
  const double room = (high - low) * share;
  low -= room;
  high += room;
}

}  // namespace

std::vector<PlotTick> NiceTicks(double low, double high, int count) {
  CHECK(low < high);
  const double rough = (high - low) / std::max(count, 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double multiple : {5.0, 2.0, 1.0}) {
    if (multiple * power >= rough * (1 - 1e-9)) step = multiple * power;
  }
  std::vector<PlotTick> ticks;
  // Each value comes from its own multiple: a running sum would drift.
  const double slack = 1e-9 * step, first = std::ceil((low - slack) / step);
  for (int i = 0; i <= 10 * std::max(count, 1); ++i) {
    const double value = (first + i) * step;
    if (!(value <= high + slack)) break;
    ticks.push_back({value, TickLabel(value, step)});
  }
  return ticks;
}

std::vector<PlotTick> LogTicks(double low, double high, int count) {
  CHECK(0 < low && low < high);
  const int first = static_cast<int>(std::floor(std::log10(low))), last = static_cast<int>(std::ceil(std::log10(high)));
  const int decades = last - first, every = std::max(1, decades / std::max(count, 1));
  std::vector<double> multiples = {1};
  if (decades * 3 <= 2 * count) multiples = {1, 2, 5};
  std::vector<PlotTick> ticks;
  for (int power = first; power <= last; power += every) {
    for (double multiple : multiples) {
      const double value = multiple * std::pow(10.0, power);
      if (value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
      ticks.push_back({value, fmt::format("{:g}", value)});
    }
  }
  return ticks.size() >= 2 ? ticks : NiceTicks(low, high, count);
}

namespace internal {

double PlotAxis::Fraction(double value) const {
  // Halves: the difference of two huge values must not overflow.
  if (!log) return (value / 2 - low / 2) / (high / 2 - low / 2);
  return (std::log(value) - std::log(low)) / (std::log(high) - std::log(low));
}

PlotData PreparePlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int x_ticks, int y_ticks) {
  // Far beyond any loss; nearer to the largest double, a step between ticks overflows.
  constexpr double kMost = 1e300;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  PlotData data;
  double x_low = kInf, x_high = -kInf, y_low = kInf, y_high = -kInf;
  for (const PlotSeries& s : series) {
    CHECK_EQ(s.x.size(), s.y.size());
    auto& points = data.points.emplace_back();
    for (size_t i = 0; i < s.x.size(); ++i) {
      const double x = s.x[i], y = s.y[i];
      if (!(std::abs(x) < kMost) || !(std::abs(y) < kMost) || (options.log_x && x < 1e-300)) continue;
      points.push_back({x, y});
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  }
  const bool none = !(x_low <= x_high);
  if (none) {
    x_low = options.log_x ? 1 : 0;
    x_high = options.log_x ? 10 : 1;
    y_low = 0;
    y_high = 1;
  }
  if (options.log_x && x_low == x_high) {
    x_low /= 2;
    x_high *= 2;
  }
  Widen(x_low, x_high, 0);
  Widen(y_low, y_high, none ? 0 : 0.04);
  data.x = {x_low, x_high, options.log_x,
            options.log_x ? LogTicks(x_low, x_high, x_ticks) : NiceTicks(x_low, x_high, x_ticks)};
  data.y = {y_low, y_high, false, NiceTicks(y_low, y_high, y_ticks)};
  return data;
}

}  // namespace internal
}  // namespace taipan
