#pragma once
// A model directory: config.json and model.safetensors.

#include <string>

#include "model/model.h"

namespace taipan {

// Reads config.json and every tensor; missing, extra or wrongly shaped tensors are a UserError naming file and tensor.
Model LoadModel(const std::string& directory);
// Writes config.json and model.safetensors into an existing directory, each atomically; equal weights give equal bytes.
void SaveModel(Model& model, const std::string& directory);
// Replaces the weights of `model` by those of a safetensors file; the same checks.
void LoadWeights(Model& model, const std::string& safetensors_path);

}  // namespace taipan
