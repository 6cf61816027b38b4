#pragma once
// What both kinds of chart share: the points that can be drawn, and the mapping of an axis to [0, 1].

#include <vector>

#include "base/plot.h"

namespace taipan::internal {

struct PlotPoint {
  double x = 0, y = 0;
};

struct PlotAxis {
  double low = 0, high = 1;  // low < high
  bool log = false;
  std::vector<PlotTick> ticks;
  double Fraction(double value) const;  // 0 at low, 1 at high
};

struct PlotData {
  std::vector<std::vector<PlotPoint>> points;  // a list for each series
  PlotAxis x, y;
};

// Points that are finite (and positive on a logarithmic axis); ranges around them; ticks. [0, 1] where there are none.
PlotData PreparePlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int x_ticks, int y_ticks);

}  // namespace taipan::internal
