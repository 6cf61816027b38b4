#include "cli/model_argument.h"

#include <algorithm>
#include <filesystem>

#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "infer/calibration.h"
#include "infer/sequence_reader.h"
#include "model/default_dtype.h"
#include "model/hf_config.h"
#include "model/memory_plan.h"
#include "model/model_files.h"
#include "model/model_path.h"
#include "model/presets.h"

namespace taipan {

namespace {

bool ignore_extra = false;

// A config file, other than those that a model's folder holds beside it.
bool IsConfigFile(const std::string& path) {
  return PathExists(path) && !IsDirectory(path) && (path == "config.json" || path.ends_with("/config.json"));
}

}  // namespace

std::string ShippedModel() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  for (const char* folder : {"models", "share/taipan/models"}) {
    const auto model = program.parent_path().parent_path() / folder / "taipan-books";
    if (std::filesystem::exists(model / "config.json", ignored)) return model.string();
  }
  return "";
}

void AddModelFlag(CLI::App& command, const std::string& names, std::string& model) {
  model = ShippedModel();
  CLI::Option* option = command.add_option(names, model)->type_name("MODEL");
  option->description(std::string("Model directory or .gguf file") +
                      (model.empty() ? "" : " (default: taipan-books, a small one that is shipped)"));
  if (model.empty()) option->required();
}

void AddLoadFlags(CLI::App& command) {
  command.add_flag("--ignore-extra", ignore_extra, "Leave out tensors that the model's config does not have");
}

Checkpoint OpenModel(const std::string& given) {
  const auto is_it = [&](const Preset& preset) { return preset.name == given; };
  if (!PathExists(given) && std::any_of(Presets().begin(), Presets().end(), is_it)) {
    throw UserError({given, "a preset has no weights",
                     "a folder with config.json and model.safetensors, or a GGUF file", "a preset",
                     "`taipan init` and `taipan train` make one from it"});
  }
  const std::string found = ModelPathOf(given);
  if (given != found && given != found + "/") Note(fmt::format("{}: reads {}", given, found));
  return OpenCheckpoint(found, {.ignore_extra = ignore_extra});
}

NamedConfig ResolveConfig(const std::string& model) {
  if (!IsConfigFile(model) && !FindModel(model).empty()) {
    Checkpoint checkpoint = OpenModel(model);
    return {checkpoint.config, checkpoint.path, std::move(checkpoint)};
  }
  const bool other = std::filesystem::is_regular_file(model) && !model.ends_with(".json");
  if (IsDirectory(model) || other) ModelPathOf(model);  // says what it lacks
  if (PathExists(model)) return {LoadModelConfig(model), model, std::nullopt};
  for (const Preset& preset : Presets()) {
    if (preset.name == model) return {preset.config, "preset " + preset.name, std::nullopt};
  }
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.push_back(preset.name);
  const std::string nearest = NearestName(model, names);
  throw UserError(
      {model, "no such model", "a model directory, a GGUF file, a config file or a preset", "none of them",
       nearest.empty() ? "`taipan presets` lists the presets" : "did you mean the preset " + nearest + "?"});
}

std::string ComputesIn(const LanguageModel& model) { return NameIn(ComputeTypeOf(model.dtype())); }

void UseKvDType(LanguageModel& model, KvType dtype) {
  if (dtype == KvType::kAuto) return;
  if (!ReadsEarlierTokens(model.config())) Note("without effect: --kv-dtype: the model keeps no keys and values");
  model.SetKvDType(DTypeOf(dtype));
}

void AddBudgetFlag(CLI::App& command, std::optional<double>& budget) {
  command
      .add_option("--budget", budget,
                  "Share of tokens that attend, by the thresholds that `taipan calibrate` wrote (default: the model's)")
      ->check(NumberFromTo(1e-6, 1.0));
}

void UseBudgetIfGiven(LanguageModel& model, const Checkpoint& checkpoint, const std::optional<double>& budget) {
  if (budget) UseBudget(model, checkpoint.path, *budget);
}

namespace {

Binding BindingToRun(const Checkpoint& checkpoint, ComputeType asked) {
  if (asked != ComputeType::kAuto) return BindingOf(DTypeOf(asked));
  if (HoldsQuantized(checkpoint.Tensors())) return Binding::kStored;
  return BindingOf(DefaultInferenceDType(checkpoint.config, checkpoint.Tensors()));
}

}  // namespace

LanguageModel LoadToRun(const Checkpoint& checkpoint, ComputeType asked) {
  const Binding binding = BindingToRun(checkpoint, asked);
  LanguageModel model = LoadModel(checkpoint, binding);
  if (binding == Binding::kStored) {
    Note(fmt::format("runs quantized weights as they are stored, computes in {}", ComputesIn(model)));
  }
  if (asked == ComputeType::kAuto && binding == Binding::kBF16) {
    Note("computes in bf16, for which this CPU has instructions (--dtype f32 is slower and rounds less)");
  }
  return model;
}

ModelText RequireText(const Checkpoint& model, const std::string& tokenizer) {
  ModelText text = LoadModelText(model, tokenizer);
  if (text.tokenizer == nullptr && !tokenizer.empty()) {
    throw UserError({tokenizer, "no tokenizer", "a tokenizer among the files", "none"});
  }
  if (text.tokenizer == nullptr) {
    throw UserError({model.path, "the model has no tokenizer", "a tokenizer among its files", "none",
                     "--tokenizer names one; `taipan score --tokens` works with token ids"});
  }
  if (!text.problems.empty()) Note("left out: " + text.problems);
  return text;
}

std::unique_ptr<Tokenizer> RequireTokenizer(const std::string& path) {
  std::unique_ptr<Tokenizer> tokenizer = LoadAnyTokenizer(path);
  if (tokenizer == nullptr) throw UserError({path, "no tokenizer", "a tokenizer among the files", "none"});
  return tokenizer;
}

void NoteDoubledBos(const Tokenizer& tokenizer, std::span<const int32_t> tokens) {
  const bool doubled = tokens.size() > 1 && tokenizer.bos() && tokens[0] == *tokenizer.bos() && tokens[1] == tokens[0];
  if (!doubled) return;
  Note(fmt::format("the text begins with the token {} (BOS) twice: one is added, so leave yours away", tokens[0]));
}

bool ReadsEarlierTokens(const ModelConfig& config) {
  return AnyBranch(config, [](const Branch& branch) {
    const std::vector<StateSpec> state = branch.State();
    return std::any_of(state.begin(), state.end(), [](const StateSpec& s) { return s.per_token; });
  });
}

void RequireRunMemory(const Checkpoint& checkpoint, const RunAs& as, int64_t tokens, const std::string& where) {
  const Binding binding = BindingToRun(checkpoint, as.dtype);
  const DType dtype = BoundDType(checkpoint.config, binding);
  const RunTypes types{.weight_bytes = BoundBytes(checkpoint, binding),
                       .dtype = dtype,
                       .kv_dtype = as.kv_dtype == KvType::kAuto ? dtype : DTypeOf(as.kv_dtype)};
  const int64_t free = AvailableMemoryBytes(),
                scratch = ScratchToRun(checkpoint.config, dtype, PieceLength(checkpoint.config));
  const auto plan = [&](int64_t n) { return PlanMemory(checkpoint.config, {n}, types).run.front(); };
  const RunCost cost = plan(std::clamp<int64_t>(tokens, 1, int64_t{1} << 30));
  if (free == 0 || cost.full_bytes == 0 || cost.total_bytes() + scratch <= free) return;
  const double left =
      static_cast<double>(free - scratch - cost.weight_bytes - cost.fixed_state_bytes - cost.window_bytes);
  const double fit = std::max(0.0, left) / static_cast<double>(cost.full_bytes) * static_cast<double>(cost.context);
  const std::string narrower = types.kv_dtype == DType::kI8 ? "" : ", more with --kv-dtype int8";
  throw UserError({where, fmt::format("{} tokens do not fit into memory", FormatExact(tokens)),
                   fmt::format("at most {}, what is free", FormatBytes(free)),
                   fmt::format("{}: weights {}, states {}, keys and values {} in {}, scratch {}",
                               FormatBytes(cost.total_bytes() + scratch), FormatBytes(cost.weight_bytes),
                               FormatBytes(cost.fixed_state_bytes + cost.window_bytes), FormatBytes(cost.full_bytes),
                               NameIn(KvTypeOf(types.kv_dtype)), FormatBytes(scratch)),
                   fmt::format("about {} tokens fit{}", FormatCount(static_cast<int64_t>(fit)), narrower)});
}

void NoteLongContext(const ModelConfig& config, int64_t tokens, const std::string& what) {
  if (!config.max_position_embeddings || !ReadsEarlierTokens(config)) return;
  if (tokens <= *config.max_position_embeddings) return;
  Note(
      fmt::format("{} {} tokens, beyond the {} positions that the model knows (max_position_embeddings): expect worse "
                  "text behind them",
                  what, FormatExact(tokens), FormatExact(*config.max_position_embeddings)));
}

std::vector<int32_t> EncodeText(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, {.add_special_tokens = true, .parse_special = false});
}

}  // namespace taipan
