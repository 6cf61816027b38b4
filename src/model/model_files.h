#pragma once
// Models in files: reading any format (checkpoint.h), writing our own.

#include <string>

#include "model/checkpoint.h"
#include "model/model.h"

namespace taipan {

// Weights are bound once, at the type that will be used: masters are copies; what is only read is a view of the file
// where that holds the type; else it is converted piece by piece. A model bound in bf16 computes in bf16.
Model LoadModel(const Checkpoint& checkpoint, Binding binding = Binding::kMasters);
Model LoadModel(const std::string& path, Binding binding = Binding::kMasters);
// What a model that only runs is bound as.
inline Binding BindingOf(DType dtype) { return dtype == DType::kBF16 ? Binding::kBF16 : Binding::kF32; }
// Writes config.json and model.safetensors into an existing directory, each atomically; equal weights give equal bytes.
void SaveModel(Model& model, const std::string& directory);
// Replaces the weights of `model` by those of another with the same architecture and sizes; the config
// there may differ in what does not change shapes.
void LoadWeights(Model& model, const Checkpoint& checkpoint);

}  // namespace taipan
