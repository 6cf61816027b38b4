// taipan bench roof: the machine's own limits, which later measurements are compared with.

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench_roof.h"
#include "cli/commands.h"
#include "cli/model_argument.h"
#include "cli/output.h"

namespace taipan {
namespace {

struct RoofOptions {
  std::string model, dtype = "f32";
  int64_t rows = 512;
  int runs = 5;
  bool json = false;
};

struct RoofReport {
  std::string model;  // "" without --model
  std::vector<ProductRate> products;
  std::vector<std::pair<int, Spread>> weighted;  // threads, GFLOP/s over the model's shapes
  Spread best;                                   // of the largest number of threads
  std::vector<BandwidthRate> memory;
};

std::vector<int> ThreadCounts() {
  std::vector<int> counts = {1};
  if (NumThreads() > 1) counts.push_back(NumThreads());
  return counts;
}

RoofReport MeasureRoof(const RoofOptions& o) {
  RoofReport report;
  std::vector<MatrixProduct> products = {{"square", 512, 512, 1},
                                         {"square", 1024, 1024, 1},
                                         {"square", 2048, 2048, 1},
                                         {"wide", 8192, 1024, 1},
                                         {"deep", 1024, 8192, 1}};
  if (!o.model.empty()) {
    const NamedConfig named = ResolveConfig(o.model);
    report.model = named.source;
    products = ProductsOf(named.config);
  }
  for (const int threads : ThreadCounts()) {
    std::vector<ProductRate> rates;
    for (const MatrixProduct& product : products) rates.push_back(MeasureProduct(product, o.rows, threads, o.runs));
    report.best = SpreadOf(rates.front().gflops);
    for (const ProductRate& rate : rates) {
      if (const Spread s = SpreadOf(rate.gflops); s.median > report.best.median) report.best = s;
    }
    if (!report.model.empty()) report.weighted.emplace_back(threads, WeightedRate(rates));
    report.products.insert(report.products.end(), rates.begin(), rates.end());
    // From the first-level cache to main memory, over the sizes common today.
    for (const int64_t kib : {32, 512, 8192, 262144}) {
      report.memory.push_back(MeasureBandwidth(kib * 1024 * threads, threads, o.runs));
    }
  }
  return report;
}

OrderedJson ToJson(const RoofReport& report, const RoofOptions& o) {
  OrderedJson json = {
      {"dtype", o.dtype}, {"cpu", CpuModelName()}, {"simd", SimdTargetName()},          {"threads", NumThreads()},
      {"runs", o.runs},   {"rows", o.rows},        {"best_gflops", ToJson(report.best)}};
  if (!report.model.empty()) {
    json["model"] = report.model;
    for (const auto& [threads, spread] : report.weighted) {
      json["model_gflops"].push_back({{"threads", threads}, {"gflops", ToJson(spread)}});
    }
  }
  for (const ProductRate& r : report.products) {
    json["matmul"].push_back({{"name", r.product.name},
                              {"m", o.rows},
                              {"n", r.product.n},
                              {"k", r.product.k},
                              {"count", r.product.count},
                              {"threads", r.threads},
                              {"gflops", ToJson(SpreadOf(r.gflops))}});
  }
  for (const BandwidthRate& r : report.memory) {
    json["memory"].push_back({{"bytes", r.bytes},
                              {"threads", r.threads},
                              {"read_gbytes_per_second", ToJson(r.read)},
                              {"write_gbytes_per_second", ToJson(r.write)}});
  }
  json["peak_rss_bytes"] = PeakResidentBytes();
  return json;
}

std::string Cell(double value) { return fmt::format("{:.1f}", value); }

void PrintTables(const RoofReport& report, const RoofOptions& o) {
  Print(fmt::format("{}\n{} threads, f32, {} runs each\n\n", MachineSummary(), NumThreads(), o.runs));
  std::vector<std::vector<std::string>> rows;
  for (const ProductRate& r : report.products) {
    const Spread s = SpreadOf(r.gflops);
    rows.push_back({r.product.name, std::to_string(r.product.count), std::to_string(o.rows),
                    std::to_string(r.product.n), std::to_string(r.product.k), std::to_string(r.threads), Cell(s.median),
                    Cell(s.min), Cell(s.max)});
  }
  for (const auto& [threads, s] : report.weighted) {
    rows.push_back(
        {"all, by FLOPs", "", "", "", "", std::to_string(threads), Cell(s.median), Cell(s.min), Cell(s.max)});
  }
  Print("Matrix products [m, k] x [n, k]^T, GFLOP/s\n");
  Print(
      FormatTable({{"shape", true}, {"count"}, {"m"}, {"n"}, {"k"}, {"threads"}, {"median"}, {"min"}, {"max"}}, rows));
  rows.clear();
  for (const BandwidthRate& r : report.memory) {
    rows.push_back({FormatBytes(r.bytes), std::to_string(r.threads), Cell(r.read.median), Cell(r.read.min),
                    Cell(r.read.max), Cell(r.write.median), Cell(r.write.min), Cell(r.write.max)});
  }
  Print("\nMemory, GB/s (1e9 bytes; plain stores, so a written line is also read)\n");
  Print(FormatTable({{"buffer"}, {"threads"}, {"read"}, {"min"}, {"max"}, {"write"}, {"min"}, {"max"}}, rows));
}

void RunRoof(const RoofOptions& o) {
  if (o.dtype != "f32") {
    throw UserError({"--dtype", "this version computes in f32", "f32", o.dtype, ""});
  }
  const RoofReport report = MeasureRoof(o);
  if (o.json) {
    PrintJson(ToJson(report, o));
  } else {
    PrintTables(report, o);
  }
}

}  // namespace

void AddBenchCommand(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  CLI::App* roof = bench->add_subcommand("roof", "The machine's limits: matrix products and memory bandwidth");
  auto o = std::make_shared<RoofOptions>();
  roof->add_option("--model", o->model,
                   "Measure this model's shapes (preset, directory or config file), weighted by FLOPs");
  roof->add_option("--dtype", o->dtype, "Number format")
      ->check(CLI::IsMember({"f32", "bf16", "int8", "int4"}))
      ->capture_default_str();
  roof->add_option("--rows", o->rows, "Tokens in one product")->check(WholeNumber(1, 1 << 20))->capture_default_str();
  roof->add_option("--runs", o->runs, "Repetitions, 0.1 s each")->check(WholeNumber(1, 1000))->capture_default_str();
  AddJsonFlag(*roof, o->json);
  AddThreadsFlag(*roof);
  roof->callback([o] { RunRoof(*o); });
}

}  // namespace taipan
