#include "plot/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "plot/internal.h"

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

namespace {

// Grows around values.
struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  bool empty() const { return !(low <= high); }
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

PlotAxis AxisOf(Range range, double room, int ticks) {
  if (range.empty()) {
    range = {0, 1};
    room = 0;
  }
  Widen(range.low, range.high, room);
  return {range.low, range.high, false, NiceTicks(range.low, range.high, ticks)};
}

PlotAxis LogAxisOf(Range range, int ticks) {
  if (range.empty()) range = {1, 10};
  if (range.low == range.high) {
    range.low /= 2;
    range.high *= 2;
  }
  Widen(range.low, range.high, 0);
  return {range.low, range.high, true, LogTicks(range.low, range.high, ticks)};
}

}  // namespace

PlotData PreparePlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int x_ticks, int y_ticks) {
  // Far beyond any loss; nearer to the largest double, a step between ticks overflows.
  constexpr double kMost = 1e300;
  PlotData data;
  Range x_range, y_range, right_range;
  for (const PlotSeries& s : series) {
    CHECK_EQ(s.x.size(), s.y.size());
    auto& points = data.points.emplace_back();
    for (size_t i = 0; i < s.x.size(); ++i) {
      const double x = s.x[i], y = s.y[i];
      if (!(std::abs(x) < kMost) || !(std::abs(y) < kMost) || (options.log_x && x < 1e-300)) continue;
      points.push_back({x, y});
      x_range.Add(x);
      (s.right ? right_range : y_range).Add(y);
    }
  }
  if (options.y_max && y_range.low < *options.y_max) y_range.high = std::min(y_range.high, *options.y_max);
  if (!right_range.empty()) right_range.low = std::min(right_range.low, 0.0);
  if (right_range.low == right_range.high) right_range.high += 1;
  data.x = options.log_x ? LogAxisOf(x_range, x_ticks) : AxisOf(x_range, 0, x_ticks);
  data.y = AxisOf(y_range, 0.04, y_ticks);
  data.right = AxisOf(right_range, right_range.empty() ? 0 : 0.04, y_ticks);
  data.right.low = std::min(0.0, right_range.empty() ? 0.0 : right_range.low);
  return data;
}

}  // namespace internal
}  // namespace taipan
