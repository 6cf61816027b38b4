#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plot/internal.h"

namespace taipan {
namespace {

using internal::PlotData;
using internal::PlotPoint;

constexpr const char* kInk = "#808080";

}  // namespace

std::string XmlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&apos;";
        break;
      default:
        // XML has no way to write most control characters.
        if (static_cast<unsigned char>(c) >= 0x20)
          out += c;
        else
          out += ' ';
    }
  }
  return out;
}

std::string internal::SvgBegin(const std::string& title, int width, int height) {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"system-ui, sans-serif\" fill=\"{2}\">\n",
      width, height, kInk);
  if (!title.empty()) out += fmt::format("<title>{}</title>\n", XmlEscaped(title));
  return out;
}

std::string internal::SvgText(double x, double y, const char* anchor, int size, const std::string& text,
                              const std::string& more) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\"{}>{}</text>\n", x, y, anchor,
                     size, more, XmlEscaped(text));
}

std::string internal::SvgLine(double x1, double y1, double x2, double y2, double opacity) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-opacity=\"{}\"/>\n", x1, y1,
      x2, y2, kInk, opacity);
}

namespace {

using internal::SvgLine;
using internal::SvgText;

struct Frame {
  double left = 64, top = 0, right = 0, bottom = 0;  // pixels
  bool two_axes = false;
  double X(double fraction) const { return left + fraction * (right - left); }
  double Y(double fraction) const { return bottom - fraction * (bottom - top); }
};

std::string AxesAndLabels(const PlotData& data, const Frame& f, const PlotOptions& options, int width, int height) {
  std::string out;
  for (const PlotTick& tick : data.y.ticks) {
    const double y = f.Y(data.y.Fraction(tick.value));
    out += SvgLine(f.left, y, f.right, y, 0.25);
    out += SvgText(f.left - 6, y + 4, "end", 12, tick.label);
  }
  for (const PlotTick& tick : data.right.ticks) {
    if (!f.two_axes) break;
    const double y = f.Y(data.right.Fraction(tick.value));
    out += SvgLine(f.right, y, f.right + 5, y, 1);
    out += SvgText(f.right + 9, y + 4, "start", 12, tick.label);
  }
  for (const PlotTick& tick : data.x.ticks) {
    const double x = f.X(data.x.Fraction(tick.value));
    out += SvgLine(x, f.bottom, x, f.bottom + 5, 1);
    out += SvgText(x, f.bottom + 19, "middle", 12, tick.label);
  }
  out += SvgLine(f.left, f.bottom, f.right, f.bottom, 1);
  out += SvgLine(f.left, f.top, f.left, f.bottom, 1);
  if (f.two_axes) out += SvgLine(f.right, f.top, f.right, f.bottom, 1);
  if (!options.title.empty()) out += SvgText(width / 2.0, 24, "middle", 16, options.title, " font-weight=\"bold\"");
  if (!options.x_label.empty()) out += SvgText((f.left + f.right) / 2, height - 8, "middle", 13, options.x_label);
  const double middle = (f.top + f.bottom) / 2;
  const auto upright = [&](double x, const std::string& label) {
    out += SvgText(x, middle, "middle", 13, label, fmt::format(" transform=\"rotate(-90 {:.1f} {:.1f})\"", x, middle));
  };
  if (!options.y_label.empty()) upright(16, options.y_label);
  if (f.two_axes && !options.right_label.empty()) upright(width - 8, options.right_label);
  return out;
}

// Of points that share a pixel column the first, lowest, highest and last are enough: a long run stays a small file.
std::vector<PlotPoint> Thinned(const std::vector<PlotPoint>& pixels) {
  std::vector<PlotPoint> out;
  for (size_t begin = 0; begin < pixels.size();) {
    size_t end = begin + 1, low = begin, high = begin;
    while (end < pixels.size() && std::floor(pixels[end].x) == std::floor(pixels[begin].x)) {
      if (pixels[end].y < pixels[low].y) low = end;
      if (pixels[end].y > pixels[high].y) high = end;
      ++end;
    }
    std::array<size_t, 4> kept = {begin, std::min(low, high), std::max(low, high), end - 1};
    for (size_t k = 0; k < kept.size(); ++k) {
      if (k == 0 || kept[k] != kept[k - 1]) out.push_back(pixels[kept[k]]);
    }
    begin = end;
  }
  return out;
}

std::string Curve(const std::vector<PlotPoint>& points, const PlotData& data, const Frame& f, const PlotSeries& series,
                  const char* color) {
  const internal::PlotAxis& y_axis = series.right ? data.right : data.y;
  std::vector<PlotPoint> pixels;
  for (const PlotPoint& p : points) pixels.push_back({f.X(data.x.Fraction(p.x)), f.Y(y_axis.Fraction(p.y))});
  std::string out;
  if (pixels.size() > 1) {
    out +=
        fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"{}{} stroke-linejoin=\"round\" points=\"",
                    color, series.faint ? 1.2 : 1.8, series.faint ? " stroke-opacity=\"0.55\"" : "",
                    series.dashed ? " stroke-dasharray=\"6 4\"" : "");
    for (const PlotPoint& p : Thinned(pixels)) out += fmt::format("{:.1f},{:.1f} ", p.x, p.y);
    out.back() = '"';
    out += "/>\n";
  }
  // Few points are marked, so that one alone can be seen.
  if (pixels.size() <= 30) {
    for (const PlotPoint& p : pixels) {
      out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", p.x, p.y, color);
    }
  }
  return out;
}

}  // namespace

std::string SvgPlot(const std::vector<PlotSeries>& series, const PlotOptions& options, int width, int height) {
  width = std::max(width, 200);
  height = std::max(height, 150);
  const PlotData data = internal::PreparePlot(series, options, width / 100, height / 55);
  Frame f;
  f.top = options.title.empty() ? 16 : 40;
  f.left = options.y_label.empty() ? 64 : 80;
  f.two_axes = std::any_of(series.begin(), series.end(), [](const PlotSeries& s) { return s.right; });
  f.right = width - (f.two_axes ? options.right_label.empty() ? 54 : 70 : 20);
  f.bottom = height - (options.x_label.empty() ? 30 : 48);

  std::string out = internal::SvgBegin(options.title, width, height);
  out += AxesAndLabels(data, f, options, width, height);
  // Curves beyond the range of an axis end at the frame.
  out += fmt::format(
      "<clipPath id=\"frame\"><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>"
      "</clipPath>\n",
      f.left - 4, f.top - 4, f.right - f.left + 8, f.bottom - f.top + 8);
  bool any = false;
  double legend_y = f.top + 14;
  for (size_t i = 0; i < series.size(); ++i) {
    const size_t place = series[i].color >= 0 ? static_cast<size_t>(series[i].color) : i;
    const char* color = internal::kSvgColors[place % internal::kSvgColors.size()];
    any |= !data.points[i].empty();
    out += "<g clip-path=\"url(#frame)\">\n" + Curve(data.points[i], data, f, series[i], color) + "</g>\n";
    if (series[i].name.empty()) continue;
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"4\" fill=\"{}\"/>\n", f.right - 14,
                       legend_y - 6, color);
    out += SvgText(f.right - 20, legend_y, "end", 12, series[i].name);
    legend_y += 18;
  }
  if (!any) out += SvgText((f.left + f.right) / 2, (f.top + f.bottom) / 2, "middle", 14, "no data");
  return out + "</svg>\n";
}

}  // namespace taipan
