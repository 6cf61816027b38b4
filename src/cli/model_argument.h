#pragma once
// What a user may name as a model: a model directory or .gguf file, a config file, or a preset.

#include <memory>
#include <string>

#include "infer/model_text.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

struct NamedConfig {
  ModelConfig config;
  std::string source;     // "preset taipan-190m", a path
  std::string directory;  // where weights are, a folder or a .gguf file; "" for presets and config files
};
// UserError where the name is none of them, with the nearest preset.
NamedConfig ResolveConfig(const std::string& model);

// The model of a directory or .gguf file. UserError with a hint where it is a preset's name or no folder.
Model LoadModelDirectory(const std::string& directory);
// Its tokenizer and what goes with it. UserError where it has none or one that does not fit the vocabulary.
ModelText RequireText(const std::string& model, const ModelConfig& config);
// The ids of a text with what the tokenizer's file puts around it, such as BOS.
std::vector<int32_t> EncodeText(const Tokenizer& tokenizer, std::string_view text);

}  // namespace taipan
