// Trains a tiny model on associative recall that its state alone cannot hold, and reports accuracy, the share of
// selected tokens and the mean alpha at the queries, all without noise. The figures of docs/recall.md come from here.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/parallel.h"
#include "model/memory_plan.h"
#include "model/selection.h"
#include "train/recall_task.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace {

using namespace taipan;  // NOLINT: an example

struct Options {
  std::string last_layer = "selective_attention";
  RecallTask task;
  TrainSettings train;
  int64_t eval_every = 100, eval_sequences = 512;
  double initializer_range = 0.12;  // near 1/sqrt(d_model): at 0.02 so narrow a model needs several times the steps
  int64_t heads = 2, d_state = 8, d_model = 64, window = 0;
  int threads = DefaultNumThreads();
};

ModelConfig ConfigOf(const Options& o) {
  ModelConfig c;
  c.vocab_size = o.task.vocab;
  c.hidden_size = o.d_model;
  c.intermediate_size = 3 * o.d_model;
  c.layer_pattern = {LayerKind::kMamba2, LayerKind::kMamba2};
  for (const LayerKind kind :
       {LayerKind::kMamba2, LayerKind::kSelectiveAttention, LayerKind::kAttention, LayerKind::kSlidingAttention}) {
    if (o.last_layer == NameOf(kind)) c.layer_pattern.push_back(kind);
  }
  if (c.num_layers() != 3) throw UserError("--last-layer", "unknown layer kind '" + o.last_layer + "'");
  c.head_dim = 16;
  c.state_size = o.d_state;
  c.chunk_size = 32;
  c.num_attention_heads = c.num_key_value_heads = o.heads;
  c.attention_head_dim = o.d_model / o.heads;
  c.sliding_window = o.window > 0 ? o.window : o.task.length;
  c.initializer_range = o.initializer_range;
  return c;
}

struct Result {
  double accuracy = 0, share = 0, query_share = 0, alpha = 0, loss = 0;
};

Result Evaluate(const LanguageModel& model, const Options& o) {
  RecallTask fresh = o.task;
  fresh.seed += 1;  // other sequences than any step's
  const RecallSource source(fresh, 64);
  ForwardContext context;
  Batch batch;
  Result r;
  double queries = 0, tokens = 0, selected = 0;
  for (int64_t step = 0; step * 64 < o.eval_sequences; ++step) {
    source.Fill(step, 0, 64, batch);
    model.Forward(batch, InferenceGate(model.config()), false, context);
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < batch.size(); ++i) {
      if (batch.targets[static_cast<size_t>(i)] >= 0) rows.push_back(i);
    }
    Tensor logits({static_cast<int64_t>(rows.size()), o.task.vocab});
    model.Logits(context, rows, logits.Matrix());
    for (size_t q = 0; q < rows.size(); ++q) {
      const float* row = logits.F32() + static_cast<int64_t>(q) * o.task.vocab;
      r.accuracy += std::max_element(row, row + o.task.vocab) - row == batch.targets[static_cast<size_t>(rows[q])];
    }
    r.loss += model.Score(context, nullptr);
    queries += static_cast<double>(rows.size());
    tokens += static_cast<double>(batch.size());
    for (const GateReport& gate : context.gates()) {
      for (int64_t i = 0; i < batch.size(); ++i) selected += gate.selected[i];
      for (const int64_t row : rows) {
        r.alpha += gate.alpha[row];
        r.query_share += gate.selected[row];
      }
    }
  }
  return {r.accuracy / queries, selected / tokens, r.query_share / queries, r.alpha / queries, r.loss / queries};
}

void Run(Options o) {
  o.task.seed = static_cast<uint64_t>(o.train.seed) * 1000 + 17;
  o.train.context = o.task.length;
  ModelConfig config = ConfigOf(o);
  o.train = ResolveSettings(o.train, config, true);
  LanguageModel model(ApplySettings(config, o.train));
  model.Initialise(static_cast<uint64_t>(o.train.seed), o.train.gate_bias);
  std::printf("# state of a sequence: %lld bytes\n",
              static_cast<long long>(PlanMemory(config, {o.task.length}).run[0].state_bytes()));
  ModelTrainer trainer(std::move(model), o.train, std::make_shared<RecallSource>(o.task, o.train.batch_size));
  std::printf("step\tloss\taccuracy\tshare\tquery_share\talpha\tnoisy_share\tlambda\tseconds\n");
  while (trainer.step() < o.train.steps) {
    const StepMetrics m = trainer.Step();
    if (trainer.step() % o.eval_every != 0 && trainer.step() != o.train.steps) continue;
    const Result r = Evaluate(trainer.model(), o);
    std::printf("%lld\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.2f\t%.1f\n", static_cast<long long>(trainer.step()),
                r.loss, r.accuracy, r.share, r.query_share, r.alpha,
                m.selected_share.empty() ? 0.0 : m.selected_share[0], BudgetLossWeight(o.train, trainer.step()),
                trainer.seconds());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  o.train.steps = 1300;
  o.train.batch_size = 64;
  o.train.learning_rate = 2e-3;
  o.train.warmup_steps = 50;
  o.train.weight_decay = 0.01;
  o.train.budget_ramp = "500:1000";
  o.train.budget_loss_weight = 10;
  CLI::App app("Associative recall: does selective attention find the tokens that need it?");
  app.option_defaults()->always_capture_default();
  app.add_option("--last-layer", o.last_layer,
                 "selective_attention, attention, sliding_attention or mamba2, after two Mamba-2 blocks");
  app.add_option("--seed", o.train.seed, "of weights, data and noise");
  app.add_option("--steps", o.train.steps, "updates");
  app.add_option("--batch-size", o.train.batch_size, "sequences a step");
  app.add_option("--learning-rate", o.train.learning_rate, "peak");
  app.add_option("--warmup-steps", o.train.warmup_steps, "");
  app.add_option("--budget", o.train.budget, "share of tokens to select");
  app.add_option("--budget-loss-weight", o.train.budget_loss_weight, "lambda at the end");
  app.add_option("--budget-loss-weight-start", o.train.budget_loss_weight_start, "lambda before the ramp");
  app.add_option("--budget-ramp", o.train.budget_ramp, "A:B in steps, 0:0 constant");
  app.add_option("--gate-bias", o.train.gate_bias, "initial s_1 - s_0");
  app.add_option("--gumbel-temperature", o.train.gumbel_temperature, "tau");
  app.add_option("--refinement", o.train.refinement, "mix or residual");
  app.add_option("--selection", o.train.selection, "argmax, threshold, random, periodic, all or none");
  app.add_option("--gumbel-noise", o.train.gumbel_noise, "on or off");
  app.add_option("--straight-through", o.train.straight_through, "selected or all");
  app.add_option("--length", o.task.length, "tokens a sequence");
  app.add_option("--contexts", o.task.contexts, "above 1: joint recall, the keys' values depend on a context token");
  app.add_option("--pairs", o.task.pairs, "key-value pairs a sequence");
  app.add_option("--vocab", o.task.vocab, "ids: a blank, keys, values");
  app.add_option("--query-power", o.task.power,
                 "above 0: keys come back at every second place, sooner rather than later (zoology: 0.01 of 8192 ids)");
  app.add_option("--heads", o.heads, "attention heads");
  app.add_option("--d-state", o.d_state, "of the Mamba-2 blocks");
  app.add_option("--d-model", o.d_model, "");
  app.add_option("--window", o.window, "keys that a query sees (0: the whole sequence)");
  app.add_option("--eval-every", o.eval_every, "steps");
  app.add_option("--initializer-range", o.initializer_range, "standard deviation of new weights");
  app.add_option("--threads", o.threads, "");
  CLI11_PARSE(app, argc, argv);
  try {
    SetNumThreads(o.threads);
    Run(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "recall: error: %s\n", e.what());
    return 1;
  }
  return 0;
}
