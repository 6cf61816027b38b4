#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plot/internal.h"

namespace taipan {
namespace {

using internal::SvgLine;
using internal::SvgText;

constexpr double kBarHeight = 16, kRowHeight = 22, kLetterWidth = 6.8;  // pixels; letters of 12 pixels' height

double Drawable(double value) { return std::isfinite(value) && value > 0 ? value : 0; }

// Three digits, more where they stand before the point.
std::string ShortNumber(double value) {
  return fmt::format(fmt::runtime(std::abs(value) >= 100 ? "{:.0f}" : "{:.3g}"), value);
}

}  // namespace

std::string SvgBars(const std::vector<PlotBar>& bars, const PlotOptions& options, int width) {
  width = std::max(width, 300);
  double largest = 0;
  size_t longest = 0;
  for (const PlotBar& bar : bars) {
    largest = std::max({largest, Drawable(bar.value), Drawable(bar.mark.value_or(0))});
    longest = std::max(longest, bar.label.size());
  }
  if (largest == 0) largest = 1;
  const double left = std::min(16 + kLetterWidth * static_cast<double>(longest), width / 2.0), right = width - 60;
  const double top = options.title.empty() ? 10 : 40, bottom = top + kRowHeight * static_cast<double>(bars.size());
  const int height = static_cast<int>(bottom) + (options.x_label.empty() ? 30 : 48);
  auto x_of = [&](double value) { return left + Drawable(value) / largest * (right - left); };

  std::string out = internal::SvgBegin(options.title, width, height);
  if (!options.title.empty()) out += SvgText(width / 2.0, 24, "middle", 16, options.title, " font-weight=\"bold\"");
  for (const PlotTick& tick : NiceTicks(0, largest, width / 120)) {
    out += SvgLine(x_of(tick.value), top, x_of(tick.value), bottom + 5, 0.25);
    out += SvgText(x_of(tick.value), bottom + 19, "middle", 12, tick.label);
  }
  double y = top + (kRowHeight - kBarHeight) / 2;
  for (const PlotBar& bar : bars) {
    const double end = x_of(bar.value), text_y = y + kBarHeight - 4;
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", left, y,
                       end - left, kBarHeight, internal::kSvgColors[0]);
    out += SvgText(left - 6, text_y, "end", 12, bar.label);
    out += SvgText(std::max(end, x_of(bar.mark.value_or(0))) + 5, text_y, "start", 12, ShortNumber(bar.value));
    if (bar.mark) {
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"3\" height=\"{:.1f}\" fill=\"{}\"/>\n",
                         x_of(*bar.mark) - 1.5, y - 1, kBarHeight + 2, internal::kSvgColors[1]);
    }
    y += kRowHeight;
  }
  out += SvgLine(left, top, left, bottom, 1);
  if (!options.x_label.empty()) out += SvgText((left + right) / 2, height - 8, "middle", 13, options.x_label);
  return out + "</svg>\n";
}

}  // namespace taipan
