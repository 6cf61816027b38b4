#include "train/run_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "plot/page.h"
#include "plot/plot.h"
#include "train/curve.h"

namespace taipan {
namespace {

constexpr std::string_view kStyle =
    R"html(  td { text-align: left; white-space: normal; } td:first-child { color: #555; vertical-align: top; white-space: nowrap; }
  .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: .5rem 1.5rem; }
  svg { width: 100%; height: auto; }
  pre { font: 13px/1.6 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ccc; border-radius: 4px; padding: .6rem .8rem; margin: .3rem 0; }
)html";
constexpr size_t kCurvePoints = 200;
constexpr size_t kMostSamples = 10;

// A chart of one column.
std::string Chart(const MetricsHistory& h, const std::vector<double>& values, const std::string& title,
                  const std::string& label, int color) {
  PlotSeries series{.name = "", .x = h.step, .y = values, .color = color};
  Smooth(series.x, series.y, kCurvePoints);
  return SvgPlot({series}, {.title = title, .x_label = "step", .y_label = label}, 640, 320);
}

}  // namespace

std::string ToHtml(const RunPage& page) {
  CHECK(page.history != nullptr);
  const MetricsHistory& h = *page.history;
  std::string html = PageBegin(page.name, kStyle);
  html += fmt::format("<h1>{}</h1>\n<table>\n", XmlEscaped(page.name));
  for (const auto& [name, value] : page.facts) {
    html += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", XmlEscaped(name), XmlEscaped(value));
  }
  html += "</table>\n<h2>Curves</h2>\n<div class=\"charts\">\n";
  if (!h.step.empty()) {
    html += LossChart(h, page.bytes_per_token, 640, 320);
    if (!h.selected_share.empty()) html += ShareChart(h, 640, 320);
    html += Chart(h, h.lr, "Learning rate", "", 2);
    html += Chart(h, h.grad_norm, "Gradient norm before clipping", "", 3);
    html += Chart(h, h.tokens_per_second, "Throughput", "tokens/s", 4);
  }
  html += "</div>\n";
  if (!page.samples.empty()) html += "<h2>Samples</h2>\n";
  const size_t first = page.samples.size() > kMostSamples ? page.samples.size() - kMostSamples : 0;
  for (size_t i = page.samples.size(); i > first; --i) {  // the newest first
    const auto& [step, text] = page.samples[i - 1];
    std::string lines;
    for (size_t begin = 0, end; begin <= text.size(); begin = end + 1) {
      end = std::min(text.find('\n', begin), text.size());
      lines += XmlEscaped(std::string_view(text).substr(begin, end - begin)) + "\n";
    }
    html += fmt::format("<p>after step {}</p>\n<pre>{}</pre>\n", step, lines);
  }
  return html + std::string(kPageEnd);
}

}  // namespace taipan
