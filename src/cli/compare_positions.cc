#include "cli/compare_positions.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "plot/plot.h"

namespace taipan {
namespace {

struct Bucket {
  int64_t from = 0, to = 0, tokens = 0;
  double nll = 0;
};
void VisitFields(Bucket& b, const FieldVisitor& visit) {
  visit({.name = "from", .required = true, .range = AtLeast(1)}, &b.from);
  visit({.name = "to", .required = true, .range = AtLeast(1)}, &b.to);
  visit({.name = "tokens", .required = true, .range = AtLeast(1)}, &b.tokens);
  visit({.name = "nll", .required = true}, &b.nll);
}

struct Result {
  std::string name;
  std::vector<Bucket> buckets;
  std::string windows;  // "context 64, stride 32", "whole text": what must be equal to compare
  std::string bytes;    // of the text
};

// One object for a text, or lines of which the last has the positions.
Result ReadResult(const std::string& path) {
  Result result{path, {}, "", ""};
  ForEachLine(ReadFile(path), path, [&](std::string_view line, const std::string& where) {
    const Json json = ParseJson(line, where);
    if (!json.is_object() || !json.contains("by_position")) return;
    const Json& list = json.at("by_position");
    if (!list.is_array()) throw UserError({where, "by_position", "a list", DescribeJson(list)});
    for (const Json& entry : list) ReadFields(entry, where + ": by_position", result.buckets.emplace_back());
    result.windows = json.contains("context") ? fmt::format("windows of {}, {} apart", json.at("context").dump(),
                                                            json.value("stride", Json()).dump())
                                              : "one document";
    result.bytes = json.contains("bytes") ? json.at("bytes").dump() : "?";
  });
  if (!result.buckets.empty()) return result;
  throw UserError({path, "no losses by position", "what `taipan score --by-position --json` printed", "none in it"});
}

void NoteDifferences(const std::vector<Result>& results) {
  std::set<std::string> windows, bytes;
  for (const Result& r : results) {
    windows.insert(r.windows);
    bytes.insert(r.bytes);
  }
  if (windows.size() > 1) Note(fmt::format("the results differ in windows: {}", fmt::join(windows, "; ")));
  if (bytes.size() > 1)
    Note(fmt::format("the results are of texts of different length: {} bytes", fmt::join(bytes, ", ")));
}

void WriteSvg(const std::vector<Result>& results, const std::string& path) {
  std::vector<PlotSeries> series;
  for (const Result& r : results) {
    PlotSeries& s = series.emplace_back();
    s.name = r.name;
    for (const Bucket& b : r.buckets) {
      s.x.push_back(static_cast<double>(b.from));
      s.y.push_back(b.nll);
    }
  }
  WriteFileAtomically(path, SvgPlot(series, {.title = "Loss by position",
                                             .x_label = "tokens before the predicted one",
                                             .y_label = "nats a token",
                                             .log_x = true}));
}

void PrintTable(const std::vector<Result>& results) {
  std::vector<Column> columns = {{"tokens before"}};
  std::map<int64_t, std::vector<std::string>> rows;  // by the first position
  for (const Result& r : results) {
    for (const Bucket& b : r.buckets) {
      const std::string label =
          b.from == b.to ? FormatExact(b.from) : fmt::format("{} to {}", FormatExact(b.from), FormatExact(b.to));
      rows.try_emplace(b.from, std::vector<std::string>{label});
    }
  }
  for (const Result& r : results) {
    columns.push_back({r.name});
    for (auto& [from, row] : rows) row.push_back("-");
    for (const Bucket& b : r.buckets) rows.at(b.from).back() = fmt::format("{:.6f}", b.nll);
  }
  std::vector<std::vector<std::string>> table;
  for (auto& [from, row] : rows) table.push_back(std::move(row));
  Print(FormatTable(columns, table));
}

}  // namespace

void ComparePositions(const std::vector<std::string>& paths, const std::string& svg, bool json) {
  std::vector<Result> results;
  for (const std::string& path : paths) results.push_back(ReadResult(path));
  NoteDifferences(results);
  if (!svg.empty()) WriteSvg(results, svg);
  if (!json) return PrintTable(results);
  OrderedJson list = OrderedJson::array();
  for (const Result& r : results) {
    OrderedJson positions = OrderedJson::array();
    for (const Bucket& b : r.buckets) {
      positions.push_back({{"from", b.from}, {"to", b.to}, {"tokens", b.tokens}, {"nll", b.nll}});
    }
    list.push_back({{"file", r.name}, {"by_position", positions}});
  }
  PrintJson({{"results", list}});
}

}  // namespace taipan
