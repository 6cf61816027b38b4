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
#include "model/memory_plan.h"
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
  std::vector<int64_t> machines = {1};
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
  settings.moments = r.moments;
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

// A number of machines with all that follows from it.
struct Planned {
  ScaleRequest request;
  Recompute recompute = Recompute::kNone;
  TrainingMemory memory = {};
  ScalePlan plan = {};

  double tokens_per_second() const {
    return static_cast<double>(request.batch * request.context) / plan.step_seconds();
  }
};

OrderedJson JsonOf(const PlanOptions& o, const Planned& planned) {
  const auto& [r, recompute, m, p] = planned;
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
          {"sequence_ranks", r.sequence_ranks},
          {"idle_share", p.idle_share},
          {"recompute", NameIn(recompute)},
          {"moments", NameIn(r.moments)},
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
          {"tokens_per_second", planned.tokens_per_second()},
          {"seconds", p.seconds()}};
}

void PrintHead(const PlanOptions& o, const ScalePlan& p) {
  const ScaleRequest& r = o.request;
  Print(
      fmt::format("{}: {} parameters, {:.3g} GFLOP a token, {:.3g} EFLOP for {:.4g}B tokens\n"
                  "{} steps of {} sequences of {} tokens in {}, on machines with {} thread{} of {}\n",
                  o.model, FormatExact(static_cast<int64_t>(p.parameters)), p.flops_per_token / 1e9,
                  p.flops_per_token * r.tokens / 1e18, r.tokens / 1e9, FormatExact(p.steps), r.batch, r.context,
                  NameIn(ComputeTypeOf(r.dtype)), NumThreads(), NumThreads() == 1 ? "" : "s", CpuModelName()));
}

void PrintPlan(const Planned& planned) {
  const auto& [r, recompute, m, p] = planned;
  const auto share = [&p = p](double seconds) {
    return fmt::format("{} ({:.1f} %)", FormatDuration(seconds), 100 * seconds / p.step_seconds());
  };
  const std::string parts =
      r.sequence_ranks == 1 ? ""
                            : fmt::format(", a part of {} tokens of each, {:.1f} % of the time waiting for the others'",
                                          r.own_context(), 100 * p.idle_share);
  Print(fmt::format("sequences {} a machine, {} a forward{}, recompute {}\n", p.rows_per_rank,
                    std::min(r.micro_batch, p.rows_per_rank), parts, NameIn(recompute)) +
        fmt::format("memory    {} a machine\n", Describe(m)) +
        fmt::format("sent      {} by a machine, a step\n", FormatBytes(static_cast<int64_t>(p.sent_bytes))) +
        fmt::format("a step    {}: compute {}, optimizer {}, network {}, copies {}\n", FormatDuration(p.step_seconds()),
                    share(p.compute_seconds), share(p.optimizer_seconds), share(p.network_seconds),
                    share(p.copy_seconds)) +
        fmt::format("the run   {} on {} machine{}: {} tokens/s\n", FormatDuration(p.seconds()), r.ranks,
                    r.ranks == 1 ? "" : "s", FormatCount(static_cast<int64_t>(planned.tokens_per_second()))));
}

void PrintTable(const std::vector<Planned>& all) {
  std::vector<std::vector<std::string>> rows;
  for (const Planned& planned : all) {
    const auto& [r, recompute, m, p] = planned;
    rows.push_back({std::to_string(r.ranks), std::to_string(p.rows_per_rank), NameIn(recompute), FormatBytes(m.total()),
                    FormatBytes(static_cast<int64_t>(p.sent_bytes)), FormatDuration(p.step_seconds()),
                    fmt::format("{:.1f} %", 100 * p.compute_seconds / p.step_seconds()),
                    FormatCount(static_cast<int64_t>(planned.tokens_per_second())), FormatDuration(p.seconds())});
  }
  Print(FormatTable({{"machines"},
                     {"sequences"},
                     {"recompute", true},
                     {"memory"},
                     {"sent"},
                     {"a step"},
                     {"computing"},
                     {"tokens/s"},
                     {"the run"}},
                    rows));
}

// What does not depend on measurements; UserError for what cannot be.
Planned BeforeMeasuring(const PlanOptions& o, const ModelConfig& config, int64_t ranks, int64_t memory) {
  Planned planned{.request = o.request};
  ScaleRequest& r = planned.request;
  r.ranks = ranks;
  CheckScale(r);
  if (r.sequence_ranks > 1 && KeepsAllKeys(config)) {
    throw UserError({"--sequence-ranks", "full attention would need the keys of all ranks before a rank's own",
                     "a model of Mamba-2, selective or sliding-window attention", o.model});
  }
  if (ranks > 1 && o.network == 0) {
    throw UserError({"--network", "how fast the machines send to each other", "Gbit/s", "nothing"});
  }
  r.micro_batch = std::min(r.micro_batch, r.rows_per_rank());
  planned.recompute = MildestRecompute(config, r, memory);
  planned.memory = ScaleMemory(config, r, planned.recompute);
  if (planned.memory.total() > memory) {
    Note(fmt::format("warning: {} machine{}: {} do not hold this, it takes {}", ranks, ranks == 1 ? "" : "s",
                     FormatBytes(memory), FormatBytes(planned.memory.total())));
  }
  return planned;
}

void RunPlan(PlanOptions& o) {
  const ModelConfig config = ResolveConfig(o.model).config;
  o.request.tokens = ParseCount("--tokens", o.tokens);
  o.request.network = o.network * 1e9;
  o.request.dtype = o.dtype == ComputeType::kAuto ? FastDType(config) : DTypeOf(o.dtype);
  const int64_t memory = o.memory > 0 ? static_cast<int64_t>(o.memory * 0x1p30) : MemoryBytes();
  std::vector<Planned> all;
  for (const int64_t ranks : o.machines) all.push_back(BeforeMeasuring(o, config, ranks, memory));
  const double copies = MeasureReads(int64_t{512} << 20, NumThreads(), {.runs = 3, .run_seconds = 0.05}).median * 1e9;
  std::map<std::pair<Recompute, int64_t>, SliceTime> measured;
  for (Planned& planned : all) {
    const auto [it, is_new] = measured.try_emplace({planned.recompute, planned.request.micro_batch});
    ScaleRequest own = planned.request;
    own.context = own.own_context();
    if (is_new) it->second = MeasureModel(config, own, planned.recompute);
    planned.plan = PlanScale(config, planned.request, {it->second.body, it->second.optimizer, copies});
  }
  if (o.json) {
    for (const Planned& planned : all) PrintJson(JsonOf(o, planned));
    return;
  }
  PrintHead(o, all.front().plan);
  all.size() == 1 ? PrintPlan(all.front()) : PrintTable(all);
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
  command
      ->add_option("--machines", o->machines, "Machines like this one, a rank each; several numbers, as 1,16: a table")
      ->check(WholeNumber(1, 65536))
      ->delimiter(',')
      ->default_str("1");
  command->add_option("--network", o->network, "Gbit/s that a machine sends, and receives at the same time")
      ->check(NumberFromTo(1e-3, 1e5));
  command->add_option("--context", r.context, "Tokens a sequence")->check(count)->capture_default_str();
  command->add_option("--batch-size", r.batch, "Sequences a step, over all machines")
      ->check(count)
      ->capture_default_str();
  command->add_option("--micro-batch-size", r.micro_batch, "Sequences a forward")->check(count)->capture_default_str();
  command->add_option("--sequence-ranks", r.sequence_ranks, "Machines that hold the same sequences, a part of each")
      ->check(WholeNumber(1, 65536))
      ->capture_default_str();
  command->add_option("--memory", o->memory, "GiB of a machine (default: of this one)")->check(NumberFromTo(1e-3, 1e6));
  AddDTypeFlag(*command, o->dtype);
  AddEnumFlag(*command, "--optimizer", r.optimizer, "Who updates the weights");
  AddEnumFlag(*command, "--moments", r.moments, "How the optimizer's moments are kept");
  AddJsonFlag(*command, o->json);
  AddThreadsFlag(*command);
  command->callback([o] { RunPlan(*o); });
}

}  // namespace taipan
