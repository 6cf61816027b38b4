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
  if (static_cast<double>(rows) * static_cast<double>(context) <= kMostSettingTokens) return;
  throw UserError({flag, "times --context is more tokens a step than any machine holds",
                   fmt::format("at most {:.0f}", kMostSettingTokens), fmt::format("{} * {}", rows, context)});
}

constexpr char kOtherRun[] = "resume with the same settings, or begin a new run with --model RUN_DIR/model";

}  // namespace

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
  s.momentum = 0.95;
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
