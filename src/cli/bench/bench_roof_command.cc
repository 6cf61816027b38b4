// taipan bench roof: the machine's own limits, which later measurements are compared with.

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench/bench_roof.h"
#include "cli/bench/bench_roof_cache.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"

namespace taipan {
namespace {

struct RoofOptions {
  std::string model, dtype = "all";
  int64_t rows = 512;
  int64_t runs = 5;
  bool json = false, refresh = false;
};

// The types that this CPU multiplies matrices in.
std::vector<std::string> DTypes() {
  std::vector<std::string> types = {"f32", "bf16"};
  if (HasInt8Products()) types.push_back("int8");
  return types;
}

std::vector<int> ThreadCounts() {
  std::vector<int> counts = {1};
  if (NumThreads() > 1) counts.push_back(NumThreads());
  return counts;
}

std::vector<MatrixProduct> Products(const std::optional<NamedConfig>& named) {
  if (!named) {
    return {{"square", 512, 512},
            {"square", 1024, 1024},
            {"square", 2048, 2048},
            {"wide", 8192, 1024},
            {"deep", 1024, 8192}};
  }
  return ProductsOf(named->config, {.selected_share = named->config.expected_share()});
}

// Adds the rates of all products in one dtype.
void MeasureProducts(const RoofOptions& o, const std::optional<NamedConfig>& named, const std::string& dtype,
                     OrderedJson& report) {
  Spread best;
  for (const int threads : ThreadCounts()) {
    std::vector<ProductRate> rates;
    for (const MatrixProduct& product : Products(named)) {
      const ProductRate r = MeasureProduct(product, o.rows, DTypeNamed(dtype), threads, {.runs = o.runs});
      const Spread spread = SpreadOf(r.gflops);
      if (spread.median > best.median) best = spread;
      report["matmul"].push_back({{"name", product.name},
                                  {"dtype", dtype},
                                  {"m", r.rows},
                                  {"n", product.n},
                                  {"k", product.k},
                                  {"count", product.weight()},
                                  {"threads", threads},
                                  {"gflops", ToJson(spread)}});
      rates.push_back(r);
    }
    if (named) {
      report["model_gflops"].push_back(
          {{"dtype", dtype}, {"threads", threads}, {"gflops", ToJson(WeightedRate(rates))}});
    }
  }
  report["best_gflops"][dtype] = ToJson(best);
}

OrderedJson MeasureRoof(const RoofOptions& o, const std::optional<NamedConfig>& named) {
  OrderedJson report = {
      {"dtype", o.dtype}, {"cpu", CpuModelName()}, {"isa", ActiveIsa()},          {"threads", NumThreads()},
      {"runs", o.runs},   {"rows", o.rows},        {"best_gflops", OrderedJson()}};
  if (named) report["model"] = named->source;
  for (const std::string& dtype : DTypes()) {
    if (o.dtype == "all" || o.dtype == dtype) MeasureProducts(o, named, dtype, report);
  }
  for (const int threads : ThreadCounts()) {
    // From the first-level cache to main memory, over the sizes common today.
    for (const int64_t kib : {32, 512, 8192, 262144}) {
      const BandwidthRate r = MeasureBandwidth(kib * 1024 * threads, threads, {.runs = o.runs});
      report["memory"].push_back({{"bytes", r.bytes},
                                  {"threads", threads},
                                  {"read_gbytes_per_second", ToJson(r.read)},
                                  {"write_gbytes_per_second", ToJson(r.write)}});
    }
  }
  report["peak_rss_bytes"] = PeakResidentBytes();
  return report;
}

std::string Cell(const OrderedJson& spread, const char* what) {
  return fmt::format("{:.1f}", spread.at(what).get<double>());
}

std::string Text(const OrderedJson& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void PrintTables(const OrderedJson& report, const RoofOptions& o, bool cached) {
  Print(fmt::format("{}\n{} threads, {} runs each{}\n\n", MachineSummary(), NumThreads(), o.runs,
                    cached ? ", measured earlier (--refresh measures again)" : ""));
  std::vector<std::vector<std::string>> rows;
  for (const OrderedJson& r : report.at("matmul")) {
    const OrderedJson& s = r.at("gflops");
    rows.push_back({Text(r.at("name")), Text(r.at("dtype")), fmt::format("{:g}", r.at("count").get<double>()),
                    Text(r.at("m")), Text(r.at("n")), Text(r.at("k")), Text(r.at("threads")), Cell(s, "median"),
                    Cell(s, "min"), Cell(s, "max")});
  }
  for (const OrderedJson& r : report.value("model_gflops", OrderedJson::array())) {
    const OrderedJson& s = r.at("gflops");
    rows.push_back({"all, by FLOPs", Text(r.at("dtype")), "", "", "", "", Text(r.at("threads")), Cell(s, "median"),
                    Cell(s, "min"), Cell(s, "max")});
  }
  Print("Matrix products [m, k] x [n, k]^T, GFLOP/s (int8: weights, with u8 activations and 32-bit sums)\n");
  Print(FormatTable(
      {{"shape", true}, {"dtype", true}, {"count"}, {"m"}, {"n"}, {"k"}, {"threads"}, {"median"}, {"min"}, {"max"}},
      rows));
  rows.clear();
  for (const OrderedJson& r : report.at("memory")) {
    const OrderedJson &read = r.at("read_gbytes_per_second"), &write = r.at("write_gbytes_per_second");
    rows.push_back({FormatBytes(r.at("bytes").get<int64_t>()), Text(r.at("threads")), Cell(read, "median"),
                    Cell(read, "min"), Cell(read, "max"), Cell(write, "median"), Cell(write, "min"),
                    Cell(write, "max")});
  }
  Print("\nMemory, GB/s (1e9 bytes; plain stores, so a written line is also read)\n");
  Print(FormatTable({{"buffer"}, {"threads"}, {"read"}, {"min"}, {"max"}, {"write"}, {"min"}, {"max"}}, rows));
}

// Whether a cached report has what this version prints.
bool Complete(const OrderedJson& report) {
  return report.contains("matmul") && report.contains("memory") && report.contains("best_gflops");
}

void RunRoof(const RoofOptions& o) {
  if (o.dtype == "int8" && !HasInt8Products()) {
    throw UserError({"--dtype", "this CPU has no instructions for products of bytes", "f32 or bf16", o.dtype});
  }
  std::optional<NamedConfig> named;
  if (!o.model.empty()) named = ResolveConfig(o.model);
  std::string key = MachineKey(o.dtype) + fmt::format(" | bench roof, rows {}, {} runs", o.rows, o.runs);
  for (const MatrixProduct& p : Products(named))
    key += fmt::format(", {} {} x {} x {:.3g}", p.name, p.n, p.k, p.weight());
  RoofCache cache;
  std::optional<OrderedJson> report = o.refresh ? std::nullopt : cache.Find(key);
  const bool cached = report && Complete(*report);
  if (!cached) {
    report = MeasureRoof(o, named);
    cache.Store(key, *report);
  }
  (*report)["cached"] = cached;
  if (o.json) {
    PrintJson(*report);
  } else {
    PrintTables(*report, o, cached);
  }
}

}  // namespace

void AddBenchRoof(CLI::App& bench) {
  CLI::App* roof = bench.add_subcommand("roof", "The machine's limits: matrix products and memory bandwidth");
  auto o = std::make_shared<RoofOptions>();
  roof->add_option("-m,--model", o->model,
                   "Measure this model's shapes (preset, directory or config file), weighted by FLOPs");
  roof->add_option("--dtype", o->dtype, "Number format")
      ->check(CLI::IsMember({"all", "f32", "bf16", "int8"}))
      ->capture_default_str();
  roof->add_option("--rows", o->rows, "Tokens in one product")->check(WholeNumber(1, 1 << 20))->capture_default_str();
  roof->add_option("--runs", o->runs, "Repetitions, 0.1 s each")->check(WholeNumber(1, 1000))->capture_default_str();
  roof->add_flag("--refresh", o->refresh, "Measure again although this machine's figures are known");
  AddJsonFlag(*roof, o->json);
  AddThreadsFlag(*roof);
  roof->callback([o] { RunRoof(*o); });
}

}  // namespace taipan
