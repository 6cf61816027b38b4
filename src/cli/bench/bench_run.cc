#include "cli/bench/bench_run.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/file_checks.h"
#include "base/files.h"
#include "base/rng.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "model/model_files.h"
#include "model/selection.h"

namespace taipan {
namespace {

constexpr uint64_t kSeed = 1;    // of random weights, tokens and selections
constexpr double kGateBias = 3;  // of random weights, as `train` starts

}  // namespace

void AddModelToBenchFlag(CLI::App& command, BenchOptions& o) {
  command
      .add_option("-m,--model", o.model, "A preset or a config file (random weights), a model directory or a GGUF file")
      ->required()
      ->type_name("PRESET|FILE|DIR|GGUF");
}

void AddRunsFlags(CLI::App& command, BenchOptions& o) {
  command.add_option("--runs", o.runs, "Timed runs")->check(WholeNumber(1, 1000))->capture_default_str();
  command.add_option("--warmup", o.warmup, "Runs before them")->check(WholeNumber(0, 1000))->capture_default_str();
}

void AddBenchFlags(CLI::App& command, BenchOptions& o) {
  AddModelToBenchFlag(command, o);
  command
      .add_option("--selected-share", o.selected_share,
                  "Share of tokens that every selective attention layer attends, 0 to 1 (default: the config's budget "
                  "with random weights, else as the gates decide)")
      ->check(NumberFromTo(0, 1));
  AddRunsFlags(command, o);
  command.add_option("--svg", o.svg, "Write the times by operation as a bar chart")->type_name("FILE");
  CLI::Option* refresh = command.add_flag("--refresh", o.refresh, "Measure the roof again although it is known");
  command.add_flag("--no-roof", o.no_roof, "Leave the roof out")->excludes(refresh);
  AddJsonFlag(command, o.json);
  AddLoadFlags(command);
  AddThreadsFlag(command);
}

WeightBytes WeightBytesOf(const LanguageModel& model) {
  std::map<std::string, double> bytes;
  WeightBytes weights;
  model.params().ForEach([&](const Weight& w) {
    if (!model.IsProduct(w)) return;
    const bool narrow = model.dtype() == DType::kBF16;
    const Tensor& plain = narrow ? w.bf16 : w.f32;
    bytes[!w.quant.empty() ? NameOf(w.quant.View().type) : NameOf(plain.dtype())] +=
        static_cast<double>(!w.quant.empty() ? w.quant.bytes() : plain.bytes());
    weights.values += w.spec.count();
  });
  weights.by_type.assign(bytes.begin(), bytes.end());
  std::sort(weights.by_type.begin(), weights.by_type.end(),
            [](const auto& a, const auto& b) { return a.second > b.second; });
  for (const auto& [type, of_type] : weights.by_type) weights.bytes += of_type;
  return weights;
}

void AddStoredDTypeFlag(CLI::App& command, ComputeType& dtype, ComputeType otherwise) {
  dtype = otherwise;
  AddEnumFlag(command, "--dtype", dtype,
              "Number format of activations and of the weights in products; auto: quantized weights as they are "
              "stored, others in f32",
              {"auto", "f32", "bf16"});
}

BenchModel LoadToBench(BenchOptions& o) {
  if (o.dtype != ComputeType::kAuto) {
    BenchModel bench = LoadBenchModel(o, BindingOf(DTypeOf(o.dtype)));
    UseKvDType(bench.model, o.kv_dtype);
    return bench;
  }
  const NamedConfig named = ResolveConfig(o.model);
  const bool stored = named.checkpoint && HoldsQuantized(named.checkpoint->Tensors());
  BenchModel bench = LoadBenchModel(o, stored ? Binding::kStored : Binding::kMasters);
  o.dtype = ComputeTypeOf(bench.model.dtype());
  UseKvDType(bench.model, o.kv_dtype);
  return bench;
}

BenchModel LoadBenchModel(const BenchOptions& o, Binding binding) {
  if (!o.svg.empty()) CheckCanWrite(o.svg);
  const NamedConfig named = ResolveConfig(o.model);
  std::optional<double> share = o.selected_share;
  if (share && named.config.num_sals() == 0) {
    Note("without effect: --selected-share: the model has no selective attention layers");
    share.reset();
  }
  if (named.checkpoint) return {LoadModel(*named.checkpoint, binding), named.source, share};
  BenchModel bench{LanguageModel(named.config), named.source, share};
  bench.model.Initialise(kSeed, kGateBias, binding);
  if (named.config.num_sals() > 0 && !share) bench.forced_share = named.config.attention_budget;
  return bench;
}

double MeanShare(const BenchModel& bench, const std::vector<double>& selected) {
  if (bench.forced_share) return *bench.forced_share;
  double sum = 0;
  for (const double share : selected) sum += share;
  return selected.empty() ? 1 : sum / static_cast<double>(selected.size());
}

void AddTimes(const std::vector<OpTime>& from, std::vector<OpTime>& to) {
  for (const OpTime& t : from) {
    auto it = std::find_if(to.begin(), to.end(), [&](const OpTime& known) { return known.op == t.op; });
    if (it == to.end()) it = to.insert(to.end(), OpTime{t.op, 0, 0});
    it->seconds += t.seconds;
    it->calls += t.calls;
  }
}

std::vector<int32_t> RandomTokens(int64_t n, int64_t vocab_size) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(RandomBelow({kSeed, kTestStream}, i, static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

GateOptions GateOf(const BenchModel& bench) {
  GateOptions gate = InferenceGate(bench.model.config());
  if (bench.forced_share) {
    gate.rule = SelectionRule::kRandom;
    gate.seed = kSeed;
    gate.share = *bench.forced_share;
  }
  return gate;
}

}  // namespace taipan
