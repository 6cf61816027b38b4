#pragma once
// Models in files: reading any format (checkpoint.h), writing our own.

#include <string>

#include "model/model.h"

namespace taipan {

// A model's folder or .gguf file. Missing, extra or wrongly shaped tensors are a UserError naming file and tensor.
Model LoadModel(const std::string& path);
// Writes config.json and model.safetensors into an existing directory, each atomically; equal weights give equal bytes.
void SaveModel(Model& model, const std::string& directory);
// Replaces the weights of `model` by those of a folder or .gguf file with the same architecture and sizes; the config
// there may differ in what does not change shapes.
void LoadWeights(Model& model, const std::string& path);

}  // namespace taipan
