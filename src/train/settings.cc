#include "train/settings.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "model/config_validate.h"
#include "model/default_dtype.h"
#include "train/row_states.h"
#include "train/schedule.h"

namespace taipan {
namespace {

constexpr double kMostSize = 2147483647;       // of one dimension, as in configs
constexpr double kMostSteps = 4294967295;      // noise counts steps in 32 bits
constexpr double kMostTokens = 1099511627776;  // 2^40, more than memory or a validation takes: products stay exact

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
  VisitEnum(
      visit,
      {.name = "dtype",
       .help = "of activations and matrix products; master weights, sums, states and the optimizer are f32. auto: bf16 "
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
         .range = Between(1, kMostTokens)},
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

using OrderedJson = nlohmann::ordered_json;  // the first difference is the first that a reader of the file meets

// What a continued run may change. Steps are looked at by the run, which knows how many are done; the tokenizer and
// the vocabulary by what they lead to, the data's stamps and the config, since "byte" may also be what no name means.
bool IsFree(const std::string& name) {
  static const char* const kFree[] = {"model",        "data",         "out",        "valid_data", "valid_every",
                                      "valid_tokens", "sample_every", "save_every", "keep",       "time_limit",
                                      "tokenizer",    "vocab_size",   "recompute",  "steps",      "micro_batch_size",
                                      "eos",          "decay_steps",  "segment"};
  TrainSettings s;
  bool operation = false;
  VisitOperations(s, [&](const FieldInfo& info, FieldPointer) { operation = operation || info.name == name; });
  return operation || std::find(std::begin(kFree), std::end(kFree), name) != std::end(kFree);
}

// What ApplySettings sets in a config.
bool FollowsSettings(const std::string& name) {
  static const char* const kSet[] = {
      "attention_budget",  "budget_loss_weight", "gumbel_temperature", "straight_through", "selection_threshold",
      "initializer_range", "refinement",         "selection",          "logits_scaling",   "eos_token_id"};
  return std::find(std::begin(kSet), std::end(kSet), name) != std::end(kSet);
}

void CheckSameKeys(const OrderedJson& saved, const OrderedJson& now, const std::string& where, const std::string& hint,
                   const std::function<bool(const std::string&)>& skip) {
  for (const auto& [key, value] : saved.items()) {
    if (skip && skip(key)) continue;
    if (now.contains(key) && now.at(key) == value) continue;
    throw UserError({where, fmt::format("the run was begun with another \"{}\"", key), value.dump(),
                     now.contains(key) ? now.at(key).dump() : "nothing", hint});
  }
}

void CheckBatch(const char* flag, int64_t rows, int64_t context) {
  if (static_cast<double>(rows) * static_cast<double>(context) <= kMostTokens) return;
  throw UserError({flag, "times --context is more tokens a step than any machine holds",
                   fmt::format("at most {:.0f}", kMostTokens), fmt::format("{} * {}", rows, context)});
}

constexpr char kOtherRun[] = "resume with the same settings, or begin a new run with --model RUN_DIR/model";

}  // namespace

void VisitFields(TrainSettings& s, const FieldVisitor& visit) {
  VisitPaths(s, visit);
  VisitShape(s, visit);
  VisitOptimizer(s, visit);
  VisitGate(s, visit);
  VisitReports(s, visit);
  VisitOperations(s, visit);
}

std::string UnderscoreKey(std::string key) {
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

void ReadRunKeys(const Json& keys, const std::string& where, TrainSettings& s) {
  if (!keys.is_object()) return ReadFields(keys, where, s);  // which says that an object is expected
  Json renamed = Json::object();
  for (const auto& [key, value] : keys.items()) {
    const std::string name = UnderscoreKey(key);
    if (renamed.contains(name)) throw UserError(where, fmt::format("key \"{}\" stands twice", name));
    renamed[name] = value;
  }
  ReadFields(renamed, where, s);
}

void ReadRunFile(const std::string& path, TrainSettings& s) { ReadRunKeys(ParseJson(ReadFile(path), path), path, s); }

void ReadSavedRun(const std::string& path, TrainSettings& s) {
  s.eos = "none";
  ReadRunFile(path, s);
}

BudgetRamp ParseRamp(const std::string& text) {
  BudgetRamp ramp;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, ramp.begin);
  bool good = first.ec == std::errc() && first.ptr != end && *first.ptr == ':';
  if (good) {
    const auto second = std::from_chars(first.ptr + 1, end, ramp.end);
    good = second.ec == std::errc() && second.ptr == end && ramp.begin >= 0 && ramp.end >= ramp.begin;
  }
  if (!good) {
    throw UserError({"--budget-ramp", "not a pair of steps", "A:B with 0 <= A <= B", "\"" + text + "\""});
  }
  return ramp;
}

double WidthRatio(const TrainSettings& s, const ModelConfig& config) {
  if (s.mup_base_width == 0) return 1;
  return static_cast<double>(config.hidden_size) / static_cast<double>(s.mup_base_width);
}

RatePair ParseRates(const std::string& text) {
  RatePair rates;
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, rates.low);
  bool good = parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == ':';
  if (good) parsed = std::from_chars(parsed.ptr + 1, end, rates.high);
  good = good && parsed.ec == std::errc() && parsed.ptr == end && rates.low > 0 && rates.low < rates.high &&
         rates.high <= 1000;
  if (!good) {
    throw UserError({"--lr-range", "not a pair of learning rates", "A:B with 0 < A < B <= 1000", "\"" + text + "\""});
  }
  return rates;
}

bool ParseId(const std::string& text, int64_t& id) {
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, id);
  return parsed.ec == std::errc() && parsed.ptr == end && id >= 0;
}

TrainSettings ResolveSettings(TrainSettings s, const ModelConfig& config, bool new_weights) {
  if (s.dtype == ComputeType::kAuto) s.dtype = ComputeTypeOf(FastDType(config));
  if (s.dtype == ComputeType::kBF16) CheckAllowsBF16(config);
  if (s.valid_split > 0 && !s.valid_data.empty()) {
    throw UserError({"--valid-split", "not together with --valid-data", "one of them", "both"});
  }
  // Ranks that share sequences work on one after the other.
  if (!s.micro_batch_size) s.micro_batch_size = s.sequence_ranks > 1 ? 1 : s.batch_size;
  if (*s.micro_batch_size > s.batch_size) {
    throw UserError({"--micro-batch-size", "larger than the batch", fmt::format("at most {}", s.batch_size),
                     std::to_string(*s.micro_batch_size)});
  }
  CheckBatch("--batch-size", s.batch_size, s.context);
  CheckRowStates(s, config);
  for (const Stages::Stage& stage : ContextStages(s).first) {
    if (s.context % stage.value == 0) continue;
    throw UserError({"--context-schedule", "a context does not divide --context",
                     fmt::format("a divisor of {}", s.context), std::to_string(stage.value)});
  }
  for (const Stages::Stage& stage : BatchStages(s).first) CheckBatch("--batch-size-schedule", stage.value, s.context);
  if (!s.lr_range.empty()) s.learning_rate = ParseRates(s.lr_range).high;
  if (!s.min_learning_rate) s.min_learning_rate = s.learning_rate / 50;
  if (*s.min_learning_rate > s.learning_rate) {
    throw UserError({"--min-learning-rate", "larger than the peak", fmt::format("at most {}", s.learning_rate),
                     fmt::format("{}", *s.min_learning_rate)});
  }
  if (!s.warmup_steps) s.warmup_steps = std::min<int64_t>(2000, s.steps / 20);
  if (!s.budget) s.budget = config.attention_budget;
  if (!s.initializer_range) s.initializer_range = config.initializer_range;
  if (s.refinement.empty()) s.refinement = NameIn(config.refinement);
  if (s.selection.empty()) s.selection = NameIn(config.selection);
  const bool by_loss = s.selection == NameIn(Selection::kArgmax);  // a budget loss holds the share
  if (s.gumbel_noise.empty()) s.gumbel_noise = by_loss ? "on" : "off";
  if (!s.budget_loss_weight) {
    s.budget_loss_weight = !new_weights ? config.budget_loss_weight : by_loss ? 30.0 : 0.0;
  }
  if (s.budget_ramp.empty()) {
    s.budget_ramp = new_weights ? fmt::format("{}:{}", s.steps / 3, 2 * s.steps / 3) : "0:0";
  }
  ParseRamp(s.budget_ramp);
  if (!s.budget_loss_weight_start) s.budget_loss_weight_start = new_weights ? 0.0 : config.budget_loss_weight;
  if (!s.gumbel_temperature) s.gumbel_temperature = config.gumbel_temperature;
  if (s.straight_through.empty()) s.straight_through = config.straight_through_all ? "all" : "selected";
  if (!s.valid_every) s.valid_every = std::max<int64_t>(1, s.steps / 20);
  return s;
}

ModelConfig ApplySettings(ModelConfig config, const TrainSettings& resolved) {
  config.initializer_range = resolved.initializer_range.value();
  if (int64_t eos; ParseId(resolved.eos, eos)) config.eos_token_id = eos;
  if (config.num_sals() == 0) return config;
  config.refinement = EnumNamed<Refinement>(resolved.refinement);
  config.selection = EnumNamed<Selection>(resolved.selection);
  config.attention_budget = resolved.budget.value();
  config.budget_loss_weight = resolved.budget_loss_weight.value();
  config.gumbel_temperature = resolved.gumbel_temperature.value();
  config.straight_through_all = resolved.straight_through == "all";
  if (config.selection != Selection::kThreshold) config.selection_threshold.clear();  // of the weights before
  return config;
}

TrainSettings InheritSettings(const TrainSettings& asked, const TrainSettings& saved) {
  const Json from = ParseJson(WriteFields(saved), "run");
  Json keys = ParseJson(WriteFields(asked), "run");
  for (auto& [key, value] : keys.items()) {
    if (value.is_null() || value == "") value = from.at(key);
  }
  TrainSettings settings;
  ReadFields(keys, "run", settings);
  settings.out = asked.out;
  return settings;
}

void FitDecay(const TrainSettings& saved, int64_t done, TrainSettings& now) {
  if (now.schedule != Schedule::kWsd || done == 0 || done > saved.steps - DecaySteps(saved)) return;
  const int64_t left = std::max<int64_t>(0, now.steps - done);
  if (DecaySteps(now) > left) now.decay_steps = left;
}

void CheckSameSettings(const TrainSettings& saved, const TrainSettings& now, const std::string& where) {
  CheckSameKeys(OrderedJson::parse(WriteFields(saved)), OrderedJson::parse(WriteFields(now)), where, kOtherRun, IsFree);
}

void CheckSameConfig(const ModelConfig& saved, const ModelConfig& now, const std::string& where) {
  CheckSameKeys(OrderedJson::parse(ToJson(saved)), OrderedJson::parse(ToJson(now)), where, kOtherRun,
                [](const std::string&) { return false; });
}

void CheckSameArchitecture(const ModelConfig& saved, const ModelConfig& now, bool compare_vocabulary,
                           const std::string& where) {
  CheckSameKeys(
      OrderedJson::parse(ToJson(saved)), OrderedJson::parse(ToJson(now)), where,
      "another model needs a run of its own: take another --out, or leave --model out",
      [&](const std::string& name) { return FollowsSettings(name) || (name == "vocab_size" && !compare_vocabulary); });
}

}  // namespace taipan
