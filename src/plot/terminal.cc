#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "plot/internal.h"

namespace taipan {
namespace {

using internal::PlotData;
using internal::PlotPoint;

constexpr std::array<int, 6> kAnsiColors = {34, 33, 32, 35, 36, 31};  // foreground: readable in light and dark schemes

// Characters of UTF-8 text, taken as one column each.
size_t Columns(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string Cut(const std::string& text, size_t columns) {
  std::string out;
  size_t seen = 0;
  for (const char c : text) {
    if ((c & 0xC0) != 0x80 && ++seen > columns) break;
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

std::string Centered(const std::string& text, size_t columns) {
  const std::string cut = Cut(text, columns);
  return std::string((columns - Columns(cut)) / 2, ' ') + cut;
}

// A grid of Braille cells, 2 x 4 dots each; the top left dot is (0, 0).
class Canvas {
 public:
  Canvas(int columns, int rows) : columns_(columns), rows_(rows), cells_(static_cast<size_t>(columns) * rows) {}
  int width() const { return 2 * columns_; }
  int height() const { return 4 * rows_; }

  void Dot(int x, int y, size_t series) {
    // Unicode numbers the dots by columns, with the fourth row added later.
    static constexpr uint8_t kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    Cell& cell = cells_[static_cast<size_t>(y / 4) * columns_ + x / 2];
    cell.dots |= kBits[y % 4][x % 2];
    cell.series = series;
  }

  // The series after the first leave out every third and fourth dot unless `solid`.
  void Line(int x, int y, int x_end, int y_end, size_t series, bool solid, int& phase) {
    const int dx = std::abs(x_end - x), dy = -std::abs(y_end - y);
    const int step_x = x < x_end ? 1 : -1, step_y = y < y_end ? 1 : -1;
    for (int error = dx + dy;;) {  // Bresenham
      if (solid || phase++ % 4 < 2) Dot(x, y, series);
      if (x == x_end && y == y_end) return;
      const int twice = 2 * error;
      if (twice >= dy) {
        error += dy;
        x += step_x;
      }
      if (twice <= dx) {
        error += dx;
        y += step_y;
      }
    }
  }

  std::string Row(int row, bool color) const {
    std::string out, blanks;
    size_t current = kNoSeries;  // whose colour is on
    for (int c = 0; c < columns_; ++c) {
      const Cell& cell = cells_[static_cast<size_t>(row) * columns_ + c];
      if (cell.dots == 0) {
        blanks += ' ';
        continue;
      }
      out += std::exchange(blanks, "");
      if (color && cell.series != current)
        out += fmt::format("\x1b[{}m", kAnsiColors[cell.series % kAnsiColors.size()]);
      current = cell.series;
      const int code = 0x2800 + cell.dots;
      for (const int byte : {0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)}) {
        out += static_cast<char>(byte);
      }
    }
    return color && current != kNoSeries ? out + "\x1b[0m" : out;
  }

 private:
  static constexpr size_t kNoSeries = ~size_t{0};
  struct Cell {
    uint8_t dots = 0;
    size_t series = 0;  // the last one drawn here
  };
  int columns_, rows_;
  std::vector<Cell> cells_;
};

int Nearest(double fraction, int count) {
  return std::clamp(static_cast<int>(std::lround(fraction * (count - 1))), 0, count - 1);
}

void DrawCurves(const PlotData& data, bool color, Canvas& canvas) {
  for (size_t s = 0; s < data.points.size(); ++s) {
    const auto& points = data.points[s];
    int phase = 0, last_x = 0, last_y = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      const int x = Nearest(data.x.Fraction(points[i].x), canvas.width());
      const int y = canvas.height() - 1 - Nearest(data.y.Fraction(points[i].y), canvas.height());
      if (i == 0)
        canvas.Dot(x, y, s);
      else
        canvas.Line(last_x, last_y, x, y, s, color || s == 0, phase);
      last_x = x;
      last_y = y;
    }
  }
}

std::string Legend(const std::vector<PlotSeries>& series, bool color) {
  std::string out;
  for (size_t i = 0; i < series.size(); ++i) {
    if (series[i].name.empty()) continue;
    const std::string mark = color || i == 0 ? "\u2812\u2812\u2812" : "\u2812 \u2812";
    if (!out.empty()) out += "   ";
    out += color ? fmt::format("\x1b[{}m{}\x1b[0m", kAnsiColors[i % kAnsiColors.size()], mark) : mark;
    out += ' ';
    out += Cut(series[i].name, 24);
  }
  return out;
}

// The labels of the ticks below their places, as far as they do not touch; and the axis with its notches.
std::string XAxis(const PlotData& data, size_t margin, int columns) {
  std::string labels(margin + 1 + static_cast<size_t>(columns), ' ');
  std::vector<bool> notch(static_cast<size_t>(columns));
  size_t free_from = 0;
  for (const PlotTick& tick : data.x.ticks) {
    const auto place = static_cast<size_t>(Nearest(data.x.Fraction(tick.value), columns));
    notch[place] = true;
    const size_t size = tick.label.size(), center = margin + 1 + place;
    if (size > labels.size()) continue;
    const size_t begin = std::min(center - std::min(center, size / 2), labels.size() - size);
    if (begin < free_from) continue;
    labels.replace(begin, size, tick.label);
    free_from = begin + size + 1;
  }
  std::string axis = std::string(margin, ' ') + "\u2514";
  for (const bool n : notch) axis += n ? "\u2534" : "\u2500";
  labels.erase(labels.find_last_not_of(' ') + 1);
  return axis + "\n" + labels + "\n";
}

}  // namespace

std::string TerminalPlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int columns, int rows,
                         bool color) {
  columns = std::max(columns, 40);
  rows = std::max(rows, 8);
  const PlotData data = internal::PreparePlot(series, options, columns / 12, std::max(rows / 3, 4));
  size_t margin = 0;
  for (const PlotTick& tick : data.y.ticks) margin = std::max(margin, tick.label.size());
  const int plot_columns = columns - static_cast<int>(margin) - 2;
  Canvas canvas(plot_columns, rows);
  DrawCurves(data, color, canvas);

  std::vector<std::string> row_labels(static_cast<size_t>(rows));
  for (const PlotTick& tick : data.y.ticks) {
    row_labels[static_cast<size_t>(rows - 1 - Nearest(data.y.Fraction(tick.value), rows))] = tick.label;
  }
  const auto width = static_cast<size_t>(columns);
  std::string out;
  if (!options.title.empty()) out += Centered(options.title, width) + "\n";
  if (!options.y_label.empty()) out += Cut(options.y_label, width) + "\n";
  for (int r = 0; r < rows; ++r) {
    const std::string& label = row_labels[static_cast<size_t>(r)];
    out += fmt::format("{:>{}}{}{}\n", label, margin, label.empty() ? "\u2502" : "\u2524", canvas.Row(r, color));
  }
  out += XAxis(data, margin, plot_columns);
  if (!options.x_label.empty()) out += Centered(options.x_label, width) + "\n";
  const std::string legend = Legend(series, color);
  if (!legend.empty()) out += std::string(margin + 1, ' ') + legend + "\n";
  const bool any = std::any_of(data.points.begin(), data.points.end(), [](const auto& p) { return !p.empty(); });
  return any ? out : out + Centered("no data", width) + "\n";
}

}  // namespace taipan
