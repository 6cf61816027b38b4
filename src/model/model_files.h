#pragma once
// Models in files: reading any format (checkpoint.h), writing our own.

#include <string>

#include "model/load_options.h"
#include "model/model.h"

namespace taipan {

// Of any path that leads to a model (model_path.h). Missing, extra or wrongly shaped tensors are a UserError naming
// file and tensor.
LanguageModel LoadModel(const std::string& path, const LoadOptions& options = {});
// Writes config.json and model.safetensors into an existing directory, each atomically; equal weights give equal bytes.
void SaveModel(LanguageModel& model, const std::string& directory);
// Replaces the weights of `model` by those of another with the same architecture and sizes; the config
// there may differ in what does not change shapes.
void LoadWeights(LanguageModel& model, const std::string& path, const LoadOptions& options = {});

}  // namespace taipan
