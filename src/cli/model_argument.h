#pragma once
// What a user may name as a model: a path that leads to one (model/model_path.h), a config file, or a preset.

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "infer/model_text.h"
#include "model/checkpoint.h"
#include "model/default_dtype.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

// The model to run, under the option's names; not required where the program finds the model that is shipped with it.
void AddModelFlag(CLI::App& command, const std::string& names, std::string& model);
// models/taipan-books of the source tree or of the installation that the running program stands in; "" without one.
std::string ShippedModel();

// The flags of every command that reads a model's weights: --ignore-extra.
void AddLoadFlags(CLI::App& command);

// The model that a path leads to (OpenCheckpoint), with a note where that is another path than the one given. UserError
// with a hint where it leads to none.
Checkpoint OpenModel(const std::string& given);

struct NamedConfig {
  ModelConfig config;
  std::string source;                    // "preset taipan-190m", a path
  std::optional<Checkpoint> checkpoint;  // none for presets and config files
};
// A config.json stands for itself, not for its folder. UserError where the name is none of them, with the nearest
// preset.
NamedConfig ResolveConfig(const std::string& model);

// The model to run in `asked`; auto: quantized weights as they are stored, else as its files and the CPU suggest
// (default_dtype.h), with a line on stderr where that is not f32.
LanguageModel LoadToRun(const Checkpoint& checkpoint, ComputeType asked);
std::string ComputesIn(const LanguageModel& model);  // "f32", "bf16"
// --kv-dtype, with a remark where the model has no keys and values.
void UseKvDType(LanguageModel& model, KvType dtype);

// --budget of commands that run a model with selective layers; what it says, given or not.
void AddBudgetFlag(CLI::App& command, std::optional<double>& budget);
void UseBudgetIfGiven(LanguageModel& model, const Checkpoint& checkpoint, const std::optional<double>& budget);

// Its tokenizer and what goes with it, or those of `tokenizer` (--tokenizer, "" where not given). UserError where it
// has none or one that does not fit the vocabulary.
ModelText RequireText(const Checkpoint& model, const std::string& tokenizer);
// The same without a model.
std::unique_ptr<Tokenizer> RequireTokenizer(const std::string& path);
// A remark where the text begins with BOS twice: one of them was pasted.
void NoteDoubledBos(const Tokenizer& tokenizer, std::span<const int32_t> tokens);
// Whether it has attention, of any kind.
bool ReadsEarlierTokens(const ModelConfig& config);
// Before anything is loaded: UserError with the plan (weights, states, keys and values, scratch, what is free) where a
// sequence of so many tokens does not fit. `where` names what has them.
struct RunAs {
  ComputeType dtype = ComputeType::kAuto;
  KvType kv_dtype = KvType::kAuto;
};
void RequireRunMemory(const Checkpoint& checkpoint, const RunAs& as, int64_t tokens, const std::string& where);
// A remark where positions go beyond those that a model with attention was trained with.
void NoteLongContext(const ModelConfig& config, int64_t tokens, const std::string& what);
// The ids of a text with what the tokenizer's file puts around it, such as BOS.
std::vector<int32_t> EncodeText(const Tokenizer& tokenizer, std::string_view text);

}  // namespace taipan
