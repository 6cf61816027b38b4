#pragma once
// What both kinds of chart share: the points that can be drawn, and the mapping of an axis to [0, 1].

#include <array>
#include <string>
#include <vector>

#include "plot/plot.h"

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
  PlotAxis x, y, right;
};

// Points that are finite (and positive on a logarithmic axis); ranges around them; ticks. [0, 1] where there are none.
PlotData PreparePlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int x_ticks, int y_ticks);

// Pieces of SVG documents. Contrast of the colours with white and with black is at least 3 for each, the least that
// WCAG 2.1 asks of graphics; the first two are told apart by people who do not see red or green.
inline constexpr std::array<const char*, 6> kSvgColors = {"#1f83d1", "#e0641a", "#2f9e50",
                                                          "#c2569b", "#8a6fd1", "#a58a00"};
std::string SvgBegin(const std::string& title, int width, int height);
// more: further attributes, with a leading blank.
std::string SvgText(double x, double y, const char* anchor, int size, const std::string& text,
                    const std::string& more = "");
std::string SvgLine(double x1, double y1, double x2, double y2, double opacity);

}  // namespace taipan::internal
