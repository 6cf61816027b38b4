#pragma once
// What `taipan bench train`, `prefill` and `decode` share: flags, the model under test, timed runs, their report.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/op_timer.h"
#include "cli/bench/bench_model_roof.h"
#include "cli/bench/bench_stats.h"
#include "model/default_dtype.h"
#include "model/flops.h"
#include "model/model.h"

namespace CLI {
class App;
}

namespace taipan {

struct BenchOptions {
  std::string model, svg;
  ComputeType dtype = ComputeType::kF32;
  KvType kv_dtype = KvType::kAuto;
  std::optional<double> selected_share;
  int64_t runs = 5, warmup = 2;
  bool json = false, refresh = false, no_roof = false;
};
void AddModelToBenchFlag(CLI::App& command, BenchOptions& o);
void AddRunsFlags(CLI::App& command, BenchOptions& o);
void AddBenchFlags(CLI::App& command, BenchOptions& o);  // those and the others

struct BenchModel {
  LanguageModel model;
  std::string name;
  std::optional<double> forced_share;  // none: the gates decide
};
// What products read of the weights in one forward.
struct WeightBytes {
  std::vector<std::pair<std::string, double>> by_type;  // "Q4_K": bytes; largest first
  double values = 0, bytes = 0;
};
WeightBytes WeightBytesOf(const LanguageModel& model);
// The weights of a model directory, else random ones: then the config's budget is forced upon the gates.
BenchModel LoadBenchModel(const BenchOptions& o, Binding binding);
// To run. --dtype auto: quantized weights as they are stored, others in f32; o.dtype becomes what activations are.
BenchModel LoadToBench(BenchOptions& o);
// --dtype auto, f32 or bf16, for LoadToBench.
void AddStoredDTypeFlag(CLI::App& command, ComputeType& dtype, ComputeType otherwise);

// What the floor counts: the forced share, which any run of draws only approaches, else the mean of what gates chose.
double MeanShare(const BenchModel& bench, const std::vector<double>& selected);

std::vector<int32_t> RandomTokens(int64_t n, int64_t vocab_size);

// The gates of forwards: as the model decides, or a counter-based draw a token that selects the forced share.
GateOptions GateOf(const BenchModel& bench);

struct Measurement {
  std::vector<double> seconds;  // a run each
  std::vector<OpTime> ops;      // over all runs
  int64_t peak_rss_bytes = 0;   // of the process, when the runs were done
};
void AddTimes(const std::vector<OpTime>& from, std::vector<OpTime>& to);  // by operation
// `once` runs warmup + runs times, the latter timed; `before` each time, untimed.
template <class B, class F>
Measurement MeasureRuns(const BenchOptions& o, B&& before, F&& once);

// A finished measurement with all that its report says.
struct BenchReport {
  std::string command;  // "train"
  std::string model;
  Workload work;
  WeightBytes weights = {};            // empty: as `work` says
  OrderedJson shape;                   // what the command adds: context, batch_size, ...
  std::string shape_text;              // the same for people
  std::vector<double> selected_share;  // a SAL each
  bool forced = false;                 // selected_share by --selected-share or the budget, not by the gates
  Measurement measured;
};
// Measures the roof, or looks it up, and prints the report: JSON, or a table; the chart where asked for.
void PrintReport(const BenchOptions& o, const ModelConfig& config, const BenchReport& report);

template <class B, class F>
Measurement MeasureRuns(const BenchOptions& o, B&& before, F&& once) {
  for (int64_t i = 0; i < o.warmup; ++i) {
    before();
    once();
  }
  Measurement m;
  for (int64_t i = 0; i < o.runs; ++i) {
    before();
    const OpRecorder recorder;
    const double start = NowSeconds();
    once();
    m.seconds.push_back(NowSeconds() - start);
    AddTimes(recorder.times(), m.ops);
  }
  m.peak_rss_bytes = PeakResidentBytes();
  return m;
}

}  // namespace taipan
