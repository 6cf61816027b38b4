#include "cli/bench/bench_model_roof.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/bench/bench_roof_cache.h"

namespace taipan {
namespace {

constexpr Effort kEffort{.runs = 5, .run_seconds = 0.04};
constexpr int64_t kMostRows = 4096;
constexpr int64_t kMemoryBytes = int64_t{256} << 20;  // a thread: more than the caches of most machines

std::string ShapeKey(const std::vector<MatrixProduct>& products, int64_t rows) {
  std::string key = fmt::format("rows {}", rows);
  for (const MatrixProduct& p : products) key += fmt::format(", {} x {} x {:.3g}", p.n, p.k, p.weight());
  return key;
}

std::optional<Spread> SpreadFrom(const OrderedJson& json) {
  Spread s;
  for (const auto& [name, field] : {std::pair("median", &s.median), {"min", &s.min}, {"max", &s.max}}) {
    const auto number = json.find(name);
    if (number == json.end() || !number->is_number() || number->get<double>() <= 0) return std::nullopt;
    *field = number->get<double>();
  }
  return s;
}

}  // namespace

ModelRoof RoofOf(const ModelConfig& config, const Workload& work, int64_t rows, const std::string& dtype,
                 bool refresh) {
  RoofCache cache;
  ModelRoof roof;
  roof.rows = std::min(rows, kMostRows);
  auto find_or = [&](const std::string& key, auto&& measure) {
    const std::optional<OrderedJson> entry = refresh ? std::nullopt : cache.Find(key);
    const std::optional<Spread> known = entry ? SpreadFrom(*entry) : std::nullopt;
    if (known) return *known;
    roof.cached = false;
    const Spread spread = measure();
    cache.Store(key, ToJson(spread));
    return spread;
  };
  const std::vector<MatrixProduct> products = ProductsOf(config, work);
  roof.gflops = find_or(MachineKey(dtype) + " | " + ShapeKey(products, roof.rows), [&] {
    std::vector<ProductRate> rates;
    for (const MatrixProduct& p : products) {
      rates.push_back(MeasureProduct(p, roof.rows, DTypeNamed(dtype), NumThreads(), kEffort));
    }
    return WeightedRate(rates);
  });
  roof.read_gbytes = find_or(MachineKey("memory") + " | read",
                             [&] { return MeasureReads(kMemoryBytes * NumThreads(), NumThreads(), kEffort); });
  return roof;
}

double FloorSeconds(const OpCost& cost, const ModelRoof& roof) {
  return std::max(cost.flops / (roof.gflops.median * 1e9), cost.bytes / (roof.read_gbytes.median * 1e9));
}

}  // namespace taipan
