// taipan bench kernels: the rate of single operations at a model's shapes.

#include "base/cpu.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "base/parallel.h"
#include "cli/bench/bench_kernel_cases.h"
#include "cli/bench/bench_roof.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "kernels/isa.h"
#include "plot/plot.h"

namespace taipan {
namespace {

struct KernelOptions {
  std::string model, only, svg;
  ComputeType dtype = ComputeType::kF32;
  int64_t tokens = 4096, runs = 5;
  double run_seconds = 0.05;
  bool json = false;
};

struct KernelRate {
  std::string op;
  std::optional<double> share;
  Spread seconds;  // of a call
  double gflops = 0, gbytes = 0;
};

KernelRate RateOf(const KernelCase& kernel, const KernelOptions& o) {
  const std::function<void()> call = kernel.prepare();
  call();  // kernels for new shapes are generated, arenas grow
  const int64_t repetitions = Repetitions(o.run_seconds, call);
  std::vector<double> seconds;
  for (int64_t run = 0; run < o.runs; ++run) {
    const double start = NowSeconds();
    for (int64_t i = 0; i < repetitions; ++i) call();
    seconds.push_back((NowSeconds() - start) / static_cast<double>(repetitions));
  }
  KernelRate rate{kernel.op, kernel.share, SpreadOf(seconds), 0, 0};
  rate.gflops = kernel.flops / rate.seconds.median * 1e-9;
  rate.gbytes = kernel.bytes / rate.seconds.median * 1e-9;
  return rate;
}

OrderedJson ToJson(const std::vector<KernelRate>& rates, const KernelOptions& o, const std::string& model) {
  OrderedJson json = {{"bench", "kernels"},       {"model", model},          {"tokens", o.tokens},
                      {"dtype", NameIn(o.dtype)}, {"threads", NumThreads()}, {"cpu", CpuModelName()},
                      {"isa", ActiveIsa()},       {"runs", o.runs}};
  json["kernels"] = OrderedJson::array();
  for (const KernelRate& r : rates) {
    OrderedJson line = {{"op", r.op}};
    if (r.share) line["selected_share"] = *r.share;
    line["seconds"] = ToJson(r.seconds);
    line["gflops"] = r.gflops;
    line["gbytes_per_second"] = r.gbytes;
    json["kernels"].push_back(line);
  }
  json["peak_rss_bytes"] = PeakResidentBytes();
  return json;
}

std::string Label(const KernelRate& r) { return r.share ? fmt::format("{}, {:g} of queries", r.op, *r.share) : r.op; }

void PrintTable(const std::vector<KernelRate>& rates, const KernelOptions& o, const std::string& model) {
  std::vector<std::vector<std::string>> rows;
  for (const KernelRate& r : rates) {
    rows.push_back({Label(r), fmt::format("{:.3f}", r.seconds.median * 1e3), fmt::format("{:.3f}", r.seconds.min * 1e3),
                    fmt::format("{:.3f}", r.seconds.max * 1e3), r.gflops > 0 ? fmt::format("{:.1f}", r.gflops) : "",
                    fmt::format("{:.1f}", r.gbytes)});
  }
  Print(fmt::format("{}\nkernels of {}, {} tokens, {}, {} threads, {} runs each\n\n", MachineSummary(), model, o.tokens,
                    NameIn(o.dtype), NumThreads(), o.runs));
  Print(FormatTable({{"operation", true}, {"ms"}, {"min"}, {"max"}, {"GFLOP/s"}, {"GB/s"}}, rows));
}

void RunKernels(const KernelOptions& o) {
  if (!o.svg.empty()) CheckCanWrite(o.svg);
  const NamedConfig named = ResolveConfig(o.model);
  std::vector<KernelRate> rates;
  ForEachKernelCase(named.config, o.tokens, DTypeOf(o.dtype), [&](const KernelCase& kernel) {
    if (kernel.op.find(o.only) != std::string::npos) rates.push_back(RateOf(kernel, o));
  });
  if (rates.empty()) throw UserError("--only", "no operation of this model has \"" + o.only + "\" in its name");
  if (!o.svg.empty()) {
    std::vector<PlotBar> bars;
    for (const KernelRate& r : rates) bars.push_back({Label(r), r.seconds.median * 1e3});
    const std::string title = fmt::format("Kernels of {}, {} tokens, {}", named.source, o.tokens, NameIn(o.dtype));
    WriteFileAtomically(o.svg, SvgBars(bars, {.title = title, .x_label = "ms a call"}));
  }
  if (o.json) {
    PrintJson(ToJson(rates, o, named.source));
  } else {
    PrintTable(rates, o, named.source);
  }
}

}  // namespace

void AddBenchKernels(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("kernels", "Single operations at a model's shapes");
  auto o = std::make_shared<KernelOptions>();
  command->add_option("-m,--model", o->model, "A preset, a config file or a model directory")
      ->required()
      ->type_name("PRESET|FILE|DIR");
  command->add_option("--tokens", o->tokens, "Rows: tokens of one sequence")
      ->check(WholeNumber(1, 1 << 20))
      ->capture_default_str();
  AddBenchDTypeFlag(*command, o->dtype);
  command->add_option("--only", o->only, "Operations with this text in their name (default: all)")->type_name("TEXT");
  command->add_option("--runs", o->runs, "Repetitions")->check(WholeNumber(1, 1000))->capture_default_str();
  command->add_option("--run-seconds", o->run_seconds, "Length of a repetition: longer ones are less noisy")
      ->check(NumberFromTo(1e-6, 60))
      ->capture_default_str();
  command->add_option("--svg", o->svg, "Write the times as a bar chart")->type_name("FILE");
  AddJsonFlag(*command, o->json);
  AddThreadsFlag(*command);
  command->callback([o] { RunKernels(*o); });
}

}  // namespace taipan
