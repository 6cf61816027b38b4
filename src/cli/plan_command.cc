// taipan plan: memory, work, communication and time of a run, before it is begun.

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/op_timer.h"
#include "base/parallel.h"
#include "cli/bench/random_rows.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "train/fit.h"
#include "train/scale_plan.h"
#include "train/trainer.h"

namespace taipan {
namespace {

struct PlanOptions {
  std::string model, tokens;
  double network = 0, memory = 0;  // Gbit/s, GiB
  ComputeType dtype = ComputeType::kAuto;
  ScaleRequest request;
  bool json = false;
};

// Of steps of a model that is a few layers high.
struct SliceTime {
  double body = 0, optimizer = 0;  // seconds: forward and backward, the rest
  double parameters = 0;
};

SliceTime MeasureSlice(ModelConfig config, const std::vector<LayerKind>& pattern, const ScaleRequest& r,
                       Recompute recompute) {
  config.layer_pattern = pattern;
  config.selection_threshold.clear();
  TrainSettings settings;
  settings.context = r.context;
  settings.batch_size = r.micro_batch;
  settings.learning_rate = 1e-4;
  settings.dtype = ComputeTypeOf(r.dtype);
  settings.recompute = recompute;
  settings.optimizer = r.optimizer;
  CheckFits(config, ResolveSettings(settings, config, /*new_weights=*/true), AvailableMemoryBytes());
  LanguageModel model(config);
  model.Initialise(/*seed=*/1, /*gate_bias=*/3);
  ModelTrainer trainer(std::move(model), settings,
                       std::make_shared<RandomRows>(r.micro_batch, r.context, config.vocab_size));
  if (config.num_sals() > 0) trainer.SetForcedShare(config.expected_share());
  trainer.Step();
  SliceTime best{1e300, 0, SumParameters(config)};
  double spent = 0;
  for (int run = 0; run < 2 || (run < 20 && spent < 0.5); ++run) {
    const OpRecorder recorder;
    const double start = NowSeconds();
    trainer.Step();
    const double seconds = NowSeconds() - start;
    spent += seconds;
    SliceTime now;
    for (const OpTime& op : recorder.times()) {
      if (op.op == "optimizer" || op.op == "gradient norm") now.optimizer += op.seconds;
    }
    now.body = seconds - now.optimizer;
    if (now.body + now.optimizer < best.body + best.optimizer) best.body = now.body, best.optimizer = now.optimizer;
  }
  return best;
}

// The whole model's, from slices of it: what a layer of each kind adds to one layer, and what one layer takes beside
// itself (embedding, head, loss); of the optimizer, the time of a parameter.
SliceTime MeasureModel(const ModelConfig& config, const ScaleRequest& r, Recompute recompute) {
  std::map<LayerKind, int64_t> count;
  for (const LayerKind kind : config.layer_pattern) ++count[kind];
  const LayerKind first = config.layer_pattern.front();
  CountProgress progress("measures", static_cast<int64_t>(count.size()) + 1, "slices");
  int64_t done = 0;
  const SliceTime one = MeasureSlice(config, {first}, r, recompute);
  progress.Update(++done);
  SliceTime slices = one, all = one;
  for (const auto& [kind, layers] : count) {
    const SliceTime two = MeasureSlice(config, {first, kind}, r, recompute);
    progress.Update(++done);
    slices.optimizer += two.optimizer;
    slices.parameters += two.parameters;
    all.body += static_cast<double>(kind == first ? layers - 1 : layers) * std::max(0.0, two.body - one.body);
  }
  progress.Finish();
  all.parameters = SumParameters(config);
  all.optimizer = slices.optimizer / slices.parameters * all.parameters;
  return all;
}

OrderedJson JsonOf(const PlanOptions& o, const ScalePlan& p, const TrainingMemory& m, Recompute recompute) {
  const ScaleRequest& r = o.request;
  return {{"model", o.model},
          {"parameters", static_cast<int64_t>(p.parameters)},
          {"flops_per_token", p.flops_per_token},
          {"total_flops", p.flops_per_token * r.tokens},
          {"tokens", r.tokens},
          {"machines", r.ranks},
          {"threads", NumThreads()},
          {"cpu", CpuModelName()},
          {"dtype", NameIn(ComputeTypeOf(r.dtype))},
          {"context", r.context},
          {"batch_size", r.batch},
          {"steps", p.steps},
          {"recompute", NameIn(recompute)},
          {"memory_bytes",
           {{"weights", m.weights},
            {"copies", m.copies},
            {"gradients", m.gradients},
            {"moments", m.moments},
            {"activations", m.kept},
            {"scratch", m.scratch},
            {"total", m.total()}}},
          {"sent_bytes_per_step", p.sent_bytes},
          {"seconds_per_step",
           {{"compute", p.compute_seconds},
            {"optimizer", p.optimizer_seconds},
            {"network", p.network_seconds},
            {"copies", p.copy_seconds},
            {"total", p.step_seconds()}}},
          {"tokens_per_second", static_cast<double>(r.batch * r.context) / p.step_seconds()},
          {"seconds", p.seconds()}};
}

void PrintPlan(const PlanOptions& o, const ScalePlan& p, const TrainingMemory& m, Recompute recompute) {
  const ScaleRequest& r = o.request;
  const auto share = [&](double seconds) {
    return fmt::format("{} ({:.1f} %)", FormatDuration(seconds), 100 * seconds / p.step_seconds());
  };
  const double step_tokens = static_cast<double>(r.batch * r.context);
  std::string text = fmt::format("{}: {} parameters, {:.3g} GFLOP a token, {:.3g} EFLOP for {:.4g}B tokens\n", o.model,
                                 FormatExact(static_cast<int64_t>(p.parameters)), p.flops_per_token / 1e9,
                                 p.flops_per_token * r.tokens / 1e18, r.tokens / 1e9);
  text += fmt::format("steps     {} of {} sequences of {} tokens; {} a machine, {} a forward, in {}, recompute {}\n",
                      FormatExact(p.steps), r.batch, r.context, p.rows_per_rank,
                      std::min(r.micro_batch, p.rows_per_rank), NameIn(ComputeTypeOf(r.dtype)), NameIn(recompute));
  text += fmt::format("memory    {} a machine\n", Describe(m));
  text += fmt::format("sent      {} by a machine, a step\n", FormatBytes(static_cast<int64_t>(p.sent_bytes)));
  text += fmt::format("a step    {}: compute {}, optimizer {}, network {}, copies {}\n",
                      FormatDuration(p.step_seconds()), share(p.compute_seconds), share(p.optimizer_seconds),
                      share(p.network_seconds), share(p.copy_seconds));
  text += fmt::format("the run   {} on {} machine{} with {} thread{} of {}: {} tokens/s\n", FormatDuration(p.seconds()),
                      r.ranks, r.ranks == 1 ? "" : "s", NumThreads(), NumThreads() == 1 ? "" : "s", CpuModelName(),
                      FormatCount(static_cast<int64_t>(step_tokens / p.step_seconds())));
  Print(text);
}

void RunPlan(PlanOptions& o) {
  ScaleRequest& r = o.request;
  const NamedConfig named = ResolveConfig(o.model);
  r.tokens = ParseCount("--tokens", o.tokens);
  r.network = o.network * 1e9;
  r.dtype = o.dtype == ComputeType::kAuto ? FastDType(named.config) : DTypeOf(o.dtype);
  r.micro_batch = std::min(r.micro_batch, std::max<int64_t>(1, r.batch / r.ranks));
  CheckScale(r);
  if (r.ranks > 1 && o.network == 0) {
    throw UserError({"--network", "how fast the machines send to each other", "Gbit/s", "nothing"});
  }
  const int64_t memory = o.memory > 0 ? static_cast<int64_t>(o.memory * 0x1p30) : MemoryBytes();
  const Recompute recompute = MildestRecompute(named.config, r, memory);
  const TrainingMemory plan_memory = ScaleMemory(named.config, r, recompute);
  if (plan_memory.total() > memory) {
    Note(fmt::format("warning: a machine has {}, which does not hold this; see --memory", FormatBytes(memory)));
  }
  const SliceTime time = MeasureModel(named.config, r, recompute);
  const double reads = MeasureReads(int64_t{512} << 20, NumThreads(), {.runs = 3, .run_seconds = 0.05}).median * 1e9;
  const ScalePlan plan = PlanScale(named.config, r, {time.body, time.optimizer, reads});
  if (o.json) return PrintJson(JsonOf(o, plan, plan_memory, recompute));
  PrintPlan(o, plan, plan_memory, recompute);
}

}  // namespace

void AddPlanCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("plan", "Memory, communication and time of a training run on one or many machines");
  auto o = std::make_shared<PlanOptions>();
  ScaleRequest& r = o->request;
  const CLI::Validator count = WholeNumber(1, int64_t{1} << 30);
  command->add_option("-m,--model,--preset", o->model, "A preset, a config file or a model directory")
      ->required()
      ->type_name("PRESET|FILE|DIR");
  command->add_option("--tokens", o->tokens, "Tokens of the run: 100B, 500M")->required();
  command->add_option("--machines", r.ranks, "Machines like this one, a rank each")
      ->check(WholeNumber(1, 65536))
      ->capture_default_str();
  command->add_option("--network", o->network, "Gbit/s that a machine sends, and receives at the same time")
      ->check(NumberFromTo(1e-3, 1e5));
  command->add_option("--context", r.context, "Tokens a sequence")->check(count)->capture_default_str();
  command->add_option("--batch-size", r.batch, "Sequences a step, over all machines")
      ->check(count)
      ->capture_default_str();
  command->add_option("--micro-batch-size", r.micro_batch, "Sequences a forward")->check(count)->capture_default_str();
  command->add_option("--memory", o->memory, "GiB of a machine (default: of this one)")->check(NumberFromTo(1e-3, 1e6));
  AddDTypeFlag(*command, o->dtype);
  AddEnumFlag(*command, "--optimizer", r.optimizer, "Who updates the weights");
  AddJsonFlag(*command, o->json);
  AddThreadsFlag(*command);
  command->callback([o] { RunPlan(*o); });
}

}  // namespace taipan
