// The keys of a run: names, help, ranges.

#include "train/settings.h"

namespace taipan {
namespace {

constexpr double kMostSize = 2147483647;   // of one dimension, as in configs
constexpr double kMostSteps = 4294967295;  // noise counts steps in 32 bits

// on | off, as a string for the command line.
void VisitSwitch(const FieldVisitor& visit, FieldInfo info, bool* on) {
  info.choices = {"on", "off"};
  std::string text = *on ? "on" : "off";
  visit(info, &text);
  *on = text == "on";
}

void VisitPaths(TrainSettings& s, const FieldVisitor& visit) {
  visit({.name = "model", .help = "a preset, a model directory to train on from, or a config file for new weights"},
        &s.model);
  visit({.name = "data",
         .help = "text, JSONL, token files (.u16, .u32, .bin, .npy), shards, gzip or Zstandard of these, folders; - is "
                 "standard input; PATH=WEIGHT for each: rows come from them in these shares"},
        &s.data);
  visit({.name = "out", .help = "folder of the run", .write = false}, &s.out);
  visit({.name = "valid_data",
         .help = "data to validate on, of the same kinds; of several each is reported by itself, too"},
        &s.valid_data);
  visit({.name = "valid_split",
         .help = "share of the data to hold out and validate on, from the end of each file; 0: none",
         .range = AtLeastBelow(0, 1)},
        &s.valid_split);
  visit({.name = "tokenizer",
         .help = "byte, a tokenizer file or a folder that has one (default: the model's own, else byte)"},
        &s.tokenizer);
  visit({.name = "eos",
         .help = "the token behind every document (a text file, a text of JSON): an id, a token by its spelling, none, "
                 "or auto: the tokenizer's own, none where it has none (default: auto)"},
        &s.eos);
  visit({.name = "vocab_size",
         .help = "ids of a preset with token files (default: the tokenizer's)",
         .range = Between(1, kMostSize)},
        &s.vocab_size);
}

void VisitShape(TrainSettings& s, const FieldVisitor& visit) {
  visit({.name = "context", .help = "tokens a sequence", .range = Between(1, kMostSize)}, &s.context);
  visit({.name = "batch_size", .help = "sequences a step", .range = Between(1, kMostSize)}, &s.batch_size);
  visit(
      {.name = "context_schedule",
       .help = "A:S,B:T: --context A up to step S, B up to step T; divisors of --context, into which each sequence is "
               "cut, so that a step keeps its tokens (default: none)"},
      &s.context_schedule);
  visit({.name = "batch_size_schedule", .help = "A:S,B:T: --batch-size A up to step S, B up to step T (default: none)"},
        &s.batch_size_schedule);
  visit({.name = "micro_batch_size",
         .help = "sequences a forward; gradients add up over a step (default: all)",
         .range = Between(1, kMostSize)},
        &s.micro_batch_size);
  visit({.name = "steps",
         .help = "optimizer steps; with --resume another number extends or shortens the run: from there on the rate "
                 "follows the schedule of the new number, lambda's ramp stays",
         .range = Between(1, kMostSteps)},
        &s.steps);
  visit({.name = "time_limit",
         .help = "stop and save after this many seconds, 0: none; shapes no schedule",
         .range = AtLeast(0)},
        &s.time_limit);
  VisitEnum(visit,
            {.name = "order",
             .help = "of the windows over the data; documents: these are shuffled before they are joined and "
                     "cut, and the windows too"},
            &s.order);
  VisitEnum(
      visit,
      {.name = "packing",
       .help = "of documents: joined and cut into windows, or each by itself, several in a row of --context tokens "
               "where they fit, nothing of one seen by another"},
      &s.packing);
  VisitEnum(
      visit,
      {.name = "state",
       .help = "that a sequence begins with: none; carry: what the one before it in the text ended with, without a "
               "gradient across; random: noise as large as such states. With either a model stays good far beyond "
               "--context"},
      &s.state);
  visit({.name = "state_windows",
         .help = "contexts that --state carry goes on for before it begins afresh",
         .range = Between(1, kMostSize)},
        &s.state_windows);
  visit({.name = "segment",
         .help = "tokens of each sequence that are in memory at a time: backward computes one segment again after the "
                 "other, with the gradient of the whole; best a multiple of chunk_size (default: 0, all)",
         .range = Between(0, kMostSize)},
        &s.segment);
  visit({.name = "seed", .help = "of weights, order and noise", .range = AtLeast(0)}, &s.seed);
  VisitEnum(visit,
            {.name = "dtype",
             .help = "of activations and matrix products; master weights, sums and states are f32. auto: bf16 "
                     "where the CPU has AVX512-BF16 or AMX, else f32; losses differ by 0.25 % after 1,000 steps"},
            &s.dtype);
  VisitEnum(visit,
            {.name = "recompute",
             .help = "what backward computes again to save memory: nothing, Mamba-2 mixers, or whole blocks"},
            &s.recompute);
}

void VisitOptimizer(TrainSettings& s, const FieldVisitor& visit) {
  VisitEnum(visit,
            {.name = "optimizer",
             .help = "muon: of the matrices within layers, at the same learning rate; the rest stays with AdamW"},
            &s.optimizer);
  VisitEnum(visit,
            {.name = "moments",
             .help = "how the optimizer's are kept: f32, or bf16 rounded up or down at random, for half their memory"},
            &s.moments);
  VisitEnum(visit,
            {.name = "schedule",
             .help = "of the rate after the warm-up: cosine falls from there on; wsd stays at the peak and falls over "
                     "the last --decay-steps, so a run can be extended before them"},
            &s.schedule);
  visit({.name = "learning_rate", .help = "peak, after the warm-up", .range = Between(0, 1000)}, &s.learning_rate);
  visit(
      {.name = "min_learning_rate", .help = "at the last step (default: 1/50 of the peak)", .range = Between(0, 1000)},
      &s.min_learning_rate);
  visit({.name = "mup_base_width",
         .help = "hidden_size of the model that --learning-rate and --initializer-range were found on: both are "
                 "converted to this model's width by muP, logits too, for new weights (default: 0, as they are)",
         .range = Between(0, kMostSize)},
        &s.mup_base_width);
  visit({.name = "lr_range",
         .help =
             "A:B: a range test: over --steps (300, say) the rate rises from A to B, lr-range.svg shows what the loss "
             "made of it (default: none)"},
        &s.lr_range);
  visit({.name = "warmup_steps",
         .help = "steps of rising rate (default: 1/20 of the steps, at most 2000)",
         .range = Between(0, kMostSteps)},
        &s.warmup_steps);
  visit({.name = "decay_steps",
         .help = "of wsd: the last steps, in which the rate falls (default: 1/5 of the steps)",
         .range = Between(0, kMostSteps)},
        &s.decay_steps);
  visit({.name = "weight_decay", .help = "of AdamW, on matrices only", .range = Between(0, 1000)}, &s.weight_decay);
  visit({.name = "clip_norm", .help = "largest norm of all gradients together, 0: no clipping", .range = AtLeast(0)},
        &s.clip_norm);
  visit({.name = "ema",
         .help = "0.999, say: validate and publish a moving average of the weights, of which a step leaves this share; "
                 "0: the weights themselves",
         .range = AtLeastBelow(0, 1)},
        &s.ema);
  visit({.name = "momentum",
         .help = "of Muon; 0.95 in published recipes, whose batches are larger",
         .range = AtLeastBelow(0, 1)},
        &s.momentum);
  visit({.name = "beta1", .help = "of AdamW", .range = AtLeastBelow(0, 1)}, &s.beta1);
  visit({.name = "beta2", .help = "of AdamW", .range = AtLeastBelow(0, 1)}, &s.beta2);
  // A smaller one is 0 as a 32-bit float and divides 0 by 0 where a gradient is 0.
  visit({.name = "eps", .help = "of AdamW", .range = Between(1e-37, 1000)}, &s.eps);
}

void VisitGate(TrainSettings& s, const FieldVisitor& visit) {
  visit({.name = "budget",
         .help = "share of tokens that may attend (default: the config's, 0.15)",
         .range = AboveUpTo(0, 1)},
        &s.budget);
  visit({.name = "budget_loss_weight",
         .help = "lambda after the ramp (default: 30 for new weights selected by argmax, 0 by another rule, else the "
                 "config's)",
         .range = Between(0, 1e9)},
        &s.budget_loss_weight);
  visit({.name = "budget_loss_weight_start",
         .help = "lambda before the ramp (default: 0 for new weights)",
         .range = Between(0, 1e9)},
        &s.budget_loss_weight_start);
  visit({.name = "budget_ramp",
         .help = "A:B, from step A to step B lambda rises, or by threshold the share of tokens falls from 1 to the "
                 "budget, 0:0: constant (default for new weights: 1/3 to 2/3 of the steps)"},
        &s.budget_ramp);
  visit({.name = "gate_bias", .help = "s_1 - s_0 of new weights: how open the gates start", .range = Between(-50, 50)},
        &s.gate_bias);
  visit({.name = "initializer_range",
         .help = "standard deviation of new weights (default: the config's, 0.02; narrow models learn faster near "
                 "1/sqrt(d_model))",
         .range = Between(1e-6, 10)},
        &s.initializer_range);
  visit({.name = "gumbel_temperature",
         .help = "tau of the surrogate (default: the config's, 1)",
         .range = Between(1e-6, 1e6)},
        &s.gumbel_temperature);
  visit({.name = "refinement",
         .help = "what a selected token gets: (1 - alpha) h + alpha o (mix) or h + alpha o (residual) (default: the "
                 "config's)",
         .choices = {"", "mix", "residual"}},
        &s.refinement);
  visit({.name = "selection",
         .help = "what selects tokens: the gate by its sign (argmax, with a budget loss), the gate by a running "
                 "quantile at the budget (threshold), or controls that do not ask it (default: the config's)",
         .choices = {"", "argmax", "threshold", "random", "periodic", "all", "none"}},
        &s.selection);
  visit({.name = "gumbel_noise",
         .help = "noise on the gates while training (default: on where --selection is argmax)",
         .choices = {"", "on", "off"}},
        &s.gumbel_noise);
  visit({.name = "gumbel_noise_until", .help = "last step with noise, 0: every step", .range = Between(0, kMostSteps)},
        &s.gumbel_noise_until);
  visit({.name = "straight_through",
         .help = "tokens that carry the gradient of selection (default: the config's)",
         .choices = {"", "selected", "all"}},
        &s.straight_through);
  visit(
      {.name = "train_only",
       .help = "groups of weights to train, as inspect names them, separated by commas, e.g. gate: the others stay as "
               "they are (default: all)"},
      &s.train_only);
}

void VisitReports(TrainSettings& s, const FieldVisitor& visit) {
  visit({.name = "valid_every",
         .help = "steps between validations, 0: only at the end (default: 1/20 of the steps)",
         .range = Between(0, kMostSteps)},
        &s.valid_every);
  visit({.name = "valid_tokens",
         .help = "tokens of a validation; 16 times as many at the end",
         .range = Between(1, kMostSettingTokens)},
        &s.valid_tokens);
  visit({.name = "sample_every",
         .help = "steps between samples of generated text, 0: none",
         .range = Between(0, kMostSteps)},
        &s.sample_every);
  visit(
      {.name = "save_every", .help = "steps between checkpoints, 0: only at the end", .range = Between(0, kMostSteps)},
      &s.save_every);
  visit({.name = "keep", .help = "newest checkpoints to keep", .range = Between(1, kMostSteps)}, &s.keep);
}

}  // namespace

// How a run is looked after: what it reports and keeps, what it does about spikes.
void VisitOperations(TrainSettings& s, const FieldVisitor& visit) {
  visit(
      {.name = "sequence_ranks",
       .help = "of several ranks: how many consecutive ones hold the same sequences, a part of each, for contexts too "
               "long for one; a divisor of their number",
       .write = s.sequence_ranks > 1,
       .range = Between(1, 65536)},
      &s.sequence_ranks);
  visit({.name = "keep_every",
         .help = "of every so many steps keep the first checkpoint, too, 0: none",
         .range = Between(0, kMostSteps)},
        &s.keep_every);
  visit(
      {.name = "spike_guard",
       .help = "skip a step whose loss or gradient norm lies this many standard deviations above the mean of the last "
               "128 (6, say); 0: never",
       .range = AtLeast(0)},
      &s.spike_guard);
  visit({.name = "rewind",
         .help = "after --rewind-after skipped steps in a row go back at least so many steps, to a checkpoint, and on "
                 "with the data behind the spike; 0: take the step, as the new level",
         .range = Between(0, kMostSteps)},
        &s.rewind);
  visit({.name = "rewind_after", .help = "skipped steps in a row", .range = Between(1, kMostSteps)}, &s.rewind_after);
  visit({.name = "layer_stats_every",
         .help = "steps between lines of metrics.jsonl about each layer: norm of its state, range of its time steps, "
                 "selected share, alpha; 0: none",
         .range = Between(0, kMostSteps)},
        &s.layer_stats_every);
  VisitSwitch(visit, {.name = "tensorboard", .help = "write RUN_DIR/tensorboard/, event files for TensorBoard"},
              &s.tensorboard);
  VisitSwitch(visit, {.name = "prometheus", .help = "write RUN_DIR/metrics.prom, a text file for Prometheus"},
              &s.prometheus);
}

void VisitFields(TrainSettings& s, const FieldVisitor& visit) {
  VisitPaths(s, visit);
  VisitShape(s, visit);
  VisitOptimizer(s, visit);
  VisitGate(s, visit);
  VisitReports(s, visit);
  VisitOperations(s, visit);
}

}  // namespace taipan
