#include "eval/report.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <vector>

#include "plot/page.h"
#include "plot/plot.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kStyle =
    "  td.share { text-align: center; padding: .15rem .6rem; }\n  svg { max-width: 100%; height: auto; }\n";

std::string TextOf(const OrderedJson& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return XmlEscaped(value.get<std::string>());
  if (value.is_number_float()) return fmt::format("{:.4f}", value.get<double>());
  return XmlEscaped(value.dump());
}

std::string Row(const char* tag, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) row += fmt::format("<{0}>{1}</{0}>", tag, cell);
  return row + "</tr>\n";
}

std::string Figure(const OrderedJson& task, const std::string& name) {
  if (!task.contains(name)) return "-";
  std::string text = TextOf(task.at(name));
  const std::string error = name + "_stderr";
  if (task.contains(error)) text += " &plusmn; " + TextOf(task.at(error));
  return text;
}

// What a task is known by: its first metric.
const char* MainMetric(const OrderedJson& task) {
  for (const char* name : {"acc", "contains", "found"}) {
    if (task.contains(name)) return name;
  }
  return nullptr;
}

std::string TaskTable(const OrderedJson& report) {
  std::string html = "<table>\n" + Row("th", {"task", "items", "accuracy", "length-normalised", "contains", "found",
                                              "perplexity", "chance", "cut"});
  for (const OrderedJson& task : report.at("tasks")) {
    const bool all = task.at("items") == task.at("asked");
    html +=
        Row("td", {TextOf(task.at("task")), TextOf(task.at("items")) + (all ? "" : " of " + TextOf(task.at("asked"))),
                   Figure(task, "acc"), Figure(task, "acc_norm"), Figure(task, "contains"), Figure(task, "found"),
                   Figure(task, "perplexity"), Figure(task, "chance"), TextOf(task.at("cut_items"))});
  }
  return html + "</table>\n";
}

std::string LengthText(double tokens) {
  for (const auto& [unit, size] : {std::pair{"M", 1048576.0}, {"K", 1024.0}}) {
    if (tokens >= size && std::fmod(tokens, size) == 0) return fmt::format("{:.0f}{}", tokens / size, unit);
  }
  return fmt::format("{:.0f}", tokens);
}

// A cell whose colour goes from white to green with its share.
std::string ShareCell(const OrderedJson* cell) {
  if (cell == nullptr || !cell->contains("found")) return "<td class=\"share\">-</td>";
  const double share = cell->at("found").get<double>();
  return fmt::format("<td class=\"share\" style=\"background: hsl(130, 45%, {:.0f}%)\">{:.2f}</td>", 97 - 37 * share,
                     share);
}

// Depths down, lengths to the right.
std::string DepthGrid(const OrderedJson& cells) {
  std::map<double, std::map<double, const OrderedJson*>> rows;
  std::map<double, bool> lengths;
  for (const OrderedJson& cell : cells) {
    const double length = cell.at("length").get<double>();
    lengths[length] = true;
    rows[cell.value("depth", 0.0)][length] = &cell;
  }
  std::string html = "<table>\n<tr><th>depth</th>";
  for (const auto& [length, there] : lengths) html += "<th>" + LengthText(length) + "</th>";
  html += "</tr>\n";
  for (auto& [depth, row] : rows) {
    html += fmt::format("<tr><td>{:.2f}</td>", depth);
    for (const auto& [length, there] : lengths) html += ShareCell(row[length]);
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string CellTable(const OrderedJson& cells) {
  std::string html = "<table>\n" + Row("th", {"tokens", "pairs", "state bytes", "items", "accuracy"});
  for (const OrderedJson& cell : cells) {
    const auto or_nothing = [&](const char* key) { return cell.contains(key) ? TextOf(cell.at(key)) : "-"; };
    html += Row("td", {LengthText(cell.at("length").get<double>()), or_nothing("pairs"), or_nothing("state_bytes"),
                       TextOf(cell.at("items")), Figure(cell, "acc")});
  }
  return html + "</table>\n";
}

}  // namespace

std::string EvalSvg(const OrderedJson& report) {
  std::vector<PlotBar> bars;
  for (const OrderedJson& task : report.at("tasks")) {
    const char* metric = MainMetric(task);
    if (metric == nullptr) continue;
    PlotBar bar{.label = task.at("task").get<std::string>(), .value = task.at(metric).get<double>()};
    if (task.contains("chance")) bar.mark = task.at("chance").get<double>();
    bars.push_back(bar);
  }
  return SvgBars(bars, {.title = "Accuracy by task, with the level of chance", .x_label = "share of items"});
}

std::string EvalPage(const OrderedJson& report) {
  std::string html = PageBegin("Evaluation", kStyle);
  html += "<h1>Evaluation</h1>\n<table>\n";
  for (const auto& [key, value] : report.items()) {
    if (!value.is_structured()) html += Row("td", {XmlEscaped(key), TextOf(value)});
  }
  html += "</table>\n<h2>Tasks</h2>\n" + TaskTable(report);
  html +=
      "<p>&plusmn; is the standard error of the mean over the items. Chance is what drawing an answer gives. Cut "
      "items lost their beginning to the model's context.</p>\n";
  html += EvalSvg(report);
  for (const OrderedJson& task : report.at("tasks")) {
    if (!task.contains("cells")) continue;
    const OrderedJson& cells = task.at("cells");
    html += "<h2>" + TextOf(task.at("task")) + "</h2>\n";
    html += task.contains("found") ? "<p>Share found, by depth and tokens.</p>\n" + DepthGrid(cells) : CellTable(cells);
  }
  return html + std::string(kPageEnd);
}

}  // namespace taipan
