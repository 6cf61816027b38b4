#pragma once
// Models in files: reading any format (checkpoint.h), writing our own.

#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/model.h"

namespace taipan {

struct SafetensorsItem;

// Weights are bound once, at the type that will be used, and converted piece by piece where the file holds another. A
// model bound in bf16 computes in bf16.
LanguageModel LoadModel(const Checkpoint& checkpoint, Binding binding = Binding::kMasters);
LanguageModel LoadModel(const std::string& path, Binding binding = Binding::kMasters);
// What a model that only runs is bound as, in numbers.
inline Binding BindingOf(DType dtype) { return dtype == DType::kBF16 ? Binding::kBF16 : Binding::kMasters; }
// What products are computed in, and the bytes that the weights take, without reading them.
DType BoundDType(const ModelConfig& config, Binding binding);
int64_t BoundBytes(const Checkpoint& checkpoint, Binding binding);
// Writes config.json and model.safetensors into an existing directory, each atomically; equal weights give equal bytes.
void SaveModel(LanguageModel& model, const std::string& directory);
// The weights as model.safetensors holds them; they point to those of the model.
std::vector<SafetensorsItem> ModelItems(LanguageModel& model);
std::map<std::string, std::string> ModelMetadata();  // that goes with them
// Replaces the weights of `model` by those of another with the same architecture and sizes; the config
// there may differ in what does not change shapes.
void LoadWeights(LanguageModel& model, const Checkpoint& checkpoint);

}  // namespace taipan
