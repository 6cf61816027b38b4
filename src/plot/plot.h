#pragma once
// Line charts of a few series, such as loss curves: as an SVG file and as text for the terminal; bar charts as SVG.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

struct PlotSeries {
  std::string name;  // in the legend; empty: not there
  std::vector<double> x;
  std::vector<double> y;  // as many as x; points with a NaN or an infinity are left out
  bool right = false;     // on the axis at the right (SVG; on a terminal all share one)
  bool faint = false;     // thin and half transparent, for what is noisy (SVG)
  bool dashed = false;    // for what was not measured (SVG)
  int color = -1;         // of the palette; default: by place in the list
};

struct PlotOptions {
  std::string title{};
  std::string x_label{};
  std::string y_label{};
  bool log_x = false;             // points with x <= 0 are left out
  std::string right_label{};      // of the axis at the right, which runs from 0
  std::optional<double> y_max{};  // of the left axis; curves above it are cut off at the frame
};

// A complete SVG document of width x height pixels. The background is transparent and the colours are of medium
// brightness, so that it can be read on white and on black.
std::string SvgPlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int width = 800,
                    int height = 450);

// Lines of text of at most `columns` characters (40 at least), `rows` of them (8 at least) for the plotted area, its
// axis and labels. Curves are drawn in Braille dots: the first solid, others dashed, or each in its colour with
// `color`.
std::string TerminalPlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int columns = 80,
                         int rows = 20, bool color = false);

// Text as SVG and HTML hold it; control characters become blanks.
std::string XmlEscaped(std::string_view text);

// One horizontal bar from 0.
struct PlotBar {
  std::string label;
  double value = 0;              // drawn and printed; below 0 and not finite: 0
  std::optional<double> mark{};  // a line across the bar, such as what would be possible
};
// A complete SVG document, as high as the bars need; options.y_label and log_x are not used.
std::string SvgBars(const std::vector<PlotBar>& bars, const PlotOptions& options, int width = 800);

struct PlotTick {
  double value = 0;
  std::string label;
};
// About `count` round values (1, 2 or 5 times a power of ten apart) inside of [low, high], low < high.
std::vector<PlotTick> NiceTicks(double low, double high, int count);
// For a logarithmic axis, 0 < low < high: powers of ten, thinned out or filled up with their 2 and 5 fold.
std::vector<PlotTick> LogTicks(double low, double high, int count);

}  // namespace taipan
