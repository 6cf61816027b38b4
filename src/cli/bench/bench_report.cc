// The report of bench train, prefill and decode: speed, share of the roof, and where the time went.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "base/parallel.h"
#include "cli/bench/bench_run.h"
#include "kernels/isa.h"
#include "plot/plot.h"

namespace taipan {
namespace {

// The time of an operation in a mean run, and its useful work: recomputation does not make it faster.
struct OpShare {
  std::string op;
  double seconds = 0, flops = 0, bytes = 0;
};

// What every kind of report needs, computed once.
struct Summary {
  Spread tokens_per_second;
  double run_seconds = 0;          // mean
  std::vector<OpShare> breakdown;  // of a mean run, longest first, "other" last; sums to run_seconds
  std::vector<OpCost> floor;
  std::optional<ModelRoof> roof;
  double floor_seconds = 0;  // operations at the roof, one after the other
  double share_of_roof = 0;
};

const OpCost* FindCost(const std::vector<OpCost>& costs, const std::string& op) {
  const auto it = std::find_if(costs.begin(), costs.end(), [&](const OpCost& c) { return c.op == op; });
  return it == costs.end() ? nullptr : &*it;
}

std::vector<OpShare> Breakdown(const Measurement& m, const std::vector<OpCost>& floor, double run_seconds) {
  std::vector<OpShare> ops;
  double covered = 0;
  for (const OpTime& t : m.ops) {
    const OpCost* cost = FindCost(floor, t.op);
    ops.push_back(
        {t.op, t.seconds / static_cast<double>(m.seconds.size()), cost ? cost->flops : 0, cost ? cost->bytes : 0});
    covered += ops.back().seconds;
  }
  std::stable_sort(ops.begin(), ops.end(), [](const OpShare& a, const OpShare& b) { return a.seconds > b.seconds; });
  ops.push_back({"other", std::max(run_seconds - covered, 0.0), 0, 0});
  return ops;
}

// Weights are read as they are bound, not as wide as activations: a mean over all of them.
void CountBoundWeights(const ModelConfig& config, const BenchReport& report, std::vector<OpCost>& floor) {
  const Workload& work = report.work;
  if (report.weights.values == 0 || work.phase == Phase::kTrain) return;
  const double off = report.weights.bytes / report.weights.values - static_cast<double>(work.element_bytes);
  for (const MatrixProduct& p : ProductsOf(config, work)) {
    double forwards = static_cast<double>(work.forwards);
    if (p.share < 1) forwards *= 1 - std::pow(1 - p.share, static_cast<double>(TokensOf(work)) / forwards);
    for (OpCost& cost : floor) {
      if (cost.op == p.name) cost.bytes += forwards * off * static_cast<double>(p.n * p.k * p.count);
    }
  }
}

Summary Summarise(const BenchOptions& o, const ModelConfig& config, const BenchReport& report) {
  Summary s;
  const double tokens = static_cast<double>(TokensOf(report.work));
  const std::vector<double>& seconds = report.measured.seconds;
  std::vector<double> rates;
  for (const double run : seconds) rates.push_back(tokens / run);
  s.tokens_per_second = SpreadOf(rates);
  s.run_seconds = std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(seconds.size());
  s.floor = CostByOperation(config, report.work);
  CountBoundWeights(config, report, s.floor);
  s.breakdown = Breakdown(report.measured, s.floor, s.run_seconds);
  if (o.no_roof) return s;
  Workload shapes = report.work;
  if (!report.forced) shapes.selected_share = config.expected_share();  // gates vary: one roof for all their runs
  const int64_t rows = std::max<int64_t>(1, TokensOf(shapes) / shapes.forwards);
  s.roof = RoofOf(config, shapes, rows, NameIn(o.dtype), o.refresh);
  for (const OpCost& cost : s.floor) s.floor_seconds += FloorSeconds(cost, *s.roof);
  // Decoding is bound by memory: its roof are the bytes that every token needs.
  const double rate = s.tokens_per_second.median / tokens * 1e-9;  // runs a nanosecond
  s.share_of_roof = report.work.phase == Phase::kDecode ? TotalBytes(s.floor) * rate / s.roof->read_gbytes.median
                                                        : TotalFlops(s.floor) * rate / s.roof->gflops.median;
  return s;
}

double PerSecond(double amount, double seconds) { return seconds > 0 ? amount / seconds * 1e-9 : 0; }

OrderedJson BreakdownJson(const Summary& s) {
  OrderedJson list = OrderedJson::array();
  for (const OpShare& op : s.breakdown) {
    list.push_back({{"op", op.op},
                    {"seconds", op.seconds},
                    {"share", op.seconds / s.run_seconds},
                    {"gflops", PerSecond(op.flops, op.seconds)},
                    {"gbytes_per_second", PerSecond(op.bytes, op.seconds)}});
  }
  return list;
}

OrderedJson FloorJson(const Summary& s) {
  OrderedJson list = OrderedJson::array();
  for (const OpCost& cost : s.floor) {
    list.push_back({{"op", cost.op}, {"flops", cost.flops}, {"bytes", cost.bytes}});
    if (s.roof) list.back()["seconds"] = FloorSeconds(cost, *s.roof);
  }
  return list;
}

OrderedJson RoofJson(const ModelRoof& roof, Phase phase) {
  return {{"bound", phase == Phase::kDecode ? "memory" : "matrix products"},
          {"gflops", roof.gflops.median},
          {"gflops_min", roof.gflops.min},
          {"gflops_max", roof.gflops.max},
          {"rows", roof.rows},
          {"read_gbytes_per_second", roof.read_gbytes.median},
          {"cached", roof.cached}};
}

OrderedJson ReportJson(const BenchOptions& o, const BenchReport& report, const Summary& s) {
  OrderedJson json = {{"bench", report.command}, {"model", report.model}};
  json.update(report.shape);
  json["dtype"] = NameIn(o.dtype);
  if (report.weights.values > 0) {
    OrderedJson types = OrderedJson::object();
    for (const auto& [type, bytes] : report.weights.by_type) types[type] = bytes;
    json["weights"] = types;
    json["bytes_per_token"] = TotalBytes(s.floor) / static_cast<double>(TokensOf(report.work));
  }
  json["threads"] = NumThreads();
  json["cpu"] = CpuModelName();
  json["isa"] = ActiveIsa();
  json["tokens_per_second"] = ToJson(s.tokens_per_second);
  json["share_of_roof"] = s.roof ? OrderedJson(s.share_of_roof) : OrderedJson();
  json["roof"] = s.roof ? RoofJson(*s.roof, report.work.phase) : OrderedJson();
  json["peak_rss_bytes"] = report.measured.peak_rss_bytes;
  json["selected_share"] = report.selected_share;
  json["selection"] = report.selected_share.empty() ? "none" : report.forced ? "forced" : "gates";
  json["flops_per_token"] = TotalFlops(s.floor) / static_cast<double>(TokensOf(report.work));
  json["tokens_per_run"] = TokensOf(report.work);
  json["seconds"] = report.measured.seconds;
  json["samples"] = OrderedJson::array();
  for (const double run : report.measured.seconds) {
    json["samples"].push_back(static_cast<double>(TokensOf(report.work)) / run);
  }
  json["breakdown"] = BreakdownJson(s);
  json["floor"] = FloorJson(s);
  json["floor_seconds"] = s.roof ? OrderedJson(s.floor_seconds) : OrderedJson();
  return json;
}

std::string Rate(double value) { return value > 0 ? fmt::format("{:.1f}", value) : ""; }

void PrintTable(const BenchOptions& o, const BenchReport& report, const Summary& s) {
  std::vector<std::vector<std::string>> rows;
  auto add = [&](const std::string& name, double seconds, double flops, double bytes, const OpCost* floor) {
    rows.push_back({name, fmt::format("{:.2f}", seconds * 1e3), fmt::format("{:.1f}", 100 * seconds / s.run_seconds),
                    Rate(PerSecond(flops, seconds)), Rate(PerSecond(bytes, seconds)),
                    floor && s.roof ? fmt::format("{:.2f}", FloorSeconds(*floor, *s.roof) * 1e3) : ""});
  };
  for (const OpShare& op : s.breakdown) add(op.op, op.seconds, op.flops, op.bytes, FindCost(s.floor, op.op));
  add("all", s.run_seconds, TotalFlops(s.floor), TotalBytes(s.floor), nullptr);
  if (s.roof) rows.back().back() = fmt::format("{:.2f}", s.floor_seconds * 1e3);
  std::string weights;
  for (const auto& [type, bytes] : report.weights.by_type) {
    weights +=
        fmt::format("{}{} {}", weights.empty() ? ", weights " : " + ", type, FormatBytes(static_cast<int64_t>(bytes)));
  }
  Print(fmt::format("{}\n{} {}, {}, {}{}, {} threads\n\n", MachineSummary(), report.command, report.model,
                    report.shape_text, NameIn(o.dtype), weights, NumThreads()));
  Print(FormatTable({{"operation", true}, {"ms"}, {"%"}, {"GFLOP/s"}, {"GB/s"}, {"floor ms"}}, rows));
  const Spread& t = s.tokens_per_second;
  std::string line = fmt::format("\n{:.1f} tokens/s ({:.1f} to {:.1f} in {} runs)", t.median, t.min, t.max,
                                 report.measured.seconds.size());
  if (s.roof && report.work.phase == Phase::kDecode) {
    line += fmt::format(", {:.1f} % of the roof of {:.1f} GB/s", 100 * s.share_of_roof, s.roof->read_gbytes.median);
  } else if (s.roof) {
    line += fmt::format(", {:.1f} % of the roof of {:.0f} GFLOP/s{}", 100 * s.share_of_roof, s.roof->gflops.median,
                        s.roof->cached ? " (measured earlier)" : "");
  }
  line += fmt::format(", peak memory {}", FormatBytes(report.measured.peak_rss_bytes));
  if (!report.selected_share.empty()) {
    line += fmt::format(", selected share {}{}", FormatShares(report.selected_share), report.forced ? " (forced)" : "");
  }
  Print(line + "\n");
}

void WriteChart(const BenchOptions& o, const BenchReport& report, const Summary& s) {
  std::vector<PlotBar> bars;
  for (const OpShare& op : s.breakdown) {
    const OpCost* cost = FindCost(s.floor, op.op);
    bars.push_back(
        {op.op, op.seconds * 1e3, cost && s.roof ? std::optional(FloorSeconds(*cost, *s.roof) * 1e3) : std::nullopt});
  }
  const std::string title = fmt::format("{} {}, {}, {}: {:.0f} tokens/s", report.command, report.model,
                                        report.shape_text, NameIn(o.dtype), s.tokens_per_second.median);
  WriteFileAtomically(o.svg, SvgBars(bars, {.title = title, .x_label = "ms a run; the mark is the floor"}));
}

}  // namespace

void PrintReport(const BenchOptions& o, const ModelConfig& config, const BenchReport& report) {
  const Summary summary = Summarise(o, config, report);
  if (!o.svg.empty()) WriteChart(o, report, summary);
  if (o.json) {
    PrintJson(ReportJson(o, report, summary));
  } else {
    PrintTable(o, report, summary);
  }
}

}  // namespace taipan
