#include "cli/model_argument.h"

#include "base/error.h"
#include "base/files.h"
#include "model/checkpoint.h"
#include "model/model_files.h"

namespace taipan {

NamedConfig ResolveConfig(const std::string& model) {
  if (IsDirectory(model) || IsGgufPath(model)) return {ReadCheckpointConfig(model).config, model, model};
  if (PathExists(model)) return {LoadModelConfig(model), model, ""};
  for (const Preset& preset : Presets()) {
    if (preset.name == model) return {preset.config, "preset " + preset.name, ""};
  }
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.push_back(preset.name);
  const std::string nearest = NearestName(model, names);
  throw UserError(
      {model, "no such model", "a model directory, a .gguf file, a config file or a preset", "none of them",
       nearest.empty() ? "`taipan presets` lists the presets" : "did you mean the preset " + nearest + "?"});
}

Model LoadModelDirectory(const std::string& directory) {
  if (!IsDirectory(directory) && !IsGgufPath(directory)) {
    throw UserError({directory, "no such model directory",
                     "a folder with config.json and model.safetensors, or a .gguf",
                     PathExists(directory) ? "a file" : "nothing", "`taipan init` and `taipan train` write them"});
  }
  return LoadModel(directory);
}

ModelText RequireText(const std::string& model, const ModelConfig& config) {
  ModelText text = LoadModelText(model, config);
  if (text.tokenizer == nullptr) {
    throw UserError({model, "the model has no tokenizer", "a tokenizer among its files", "none",
                     "`taipan score --tokens` works with token ids"});
  }
  return text;
}

std::vector<int32_t> EncodeText(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, {.add_special_tokens = true, .parse_special = false});
}

}  // namespace taipan
