// taipan bench train: steps of training on random tokens.

#include "cli/bench/bench_run.h"
#include "cli/bench/random_rows.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "train/fit.h"
#include "train/trainer.h"

namespace taipan {
namespace {

struct TrainBenchOptions : BenchOptions {
  int64_t context = 1024, batch_size = 1;
  std::optional<int64_t> micro_batch_size;
  Recompute recompute = Recompute::kNone;
};

TrainSettings SettingsOf(const TrainBenchOptions& o) {
  TrainSettings s;
  s.context = o.context;
  s.batch_size = o.batch_size;
  s.micro_batch_size = o.micro_batch_size;
  s.learning_rate = 1e-4;
  s.dtype = o.dtype;
  s.recompute = o.recompute;
  return s;
}

void RunTrain(const TrainBenchOptions& o) {
  BenchModel bench = LoadBenchModel(o, Binding::kMasters);
  const ModelConfig config = bench.model.config();
  CheckFits(config, ResolveSettings(SettingsOf(o), config, /*new_weights=*/false), AvailableMemoryBytes());
  const auto source = std::make_shared<RandomRows>(o.batch_size, o.context, config.vocab_size);
  ModelTrainer trainer(std::move(bench.model), SettingsOf(o), source);
  if (bench.forced_share) trainer.SetForcedShare(*bench.forced_share);
  const int64_t micro = trainer.settings().micro_batch_size.value();
  BenchReport report;
  report.command = "train";
  report.model = bench.name;
  report.shape = {{"context", o.context},
                  {"batch_size", o.batch_size},
                  {"micro_batch_size", micro},
                  {"recompute", NameIn(o.recompute)}};
  report.shape_text = fmt::format("context {}, batch {}{}{}", o.context, o.batch_size,
                                  micro < o.batch_size ? fmt::format(" in {}s", micro) : "",
                                  o.recompute == Recompute::kNone ? "" : ", recompute " + NameIn(o.recompute));
  report.forced = bench.forced_share.has_value();
  report.measured = MeasureRuns(
      o, [] {}, [&] { report.selected_share = trainer.Step().selected_share; });
  report.work = {.phase = Phase::kTrain,
                 .context = o.context,
                 .sequences = o.batch_size,
                 .forwards = (o.batch_size + micro - 1) / micro,
                 .selected_share = MeanShare(bench, report.selected_share),
                 .element_bytes = SizeOf(DTypeOf(o.dtype))};
  PrintReport(o, config, report);
}

}  // namespace

void AddBenchTrain(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("train", "Training steps on random tokens");
  auto o = std::make_shared<TrainBenchOptions>();
  AddBenchFlags(*command, *o);
  AddBenchDTypeFlag(*command, o->dtype);
  const CLI::Validator count = WholeNumber(1, int64_t{1} << 30);
  command->add_option("--context", o->context, "Tokens a sequence")->check(count)->capture_default_str();
  command->add_option("--batch-size", o->batch_size, "Sequences a step")->check(count)->capture_default_str();
  command->add_option("--micro-batch-size", o->micro_batch_size, "Sequences a forward (default: all)")->check(count);
  AddEnumFlag(*command, "--recompute", o->recompute, "What backward computes again instead of keeping it");
  command->callback([o] { RunTrain(*o); });
}

}  // namespace taipan
