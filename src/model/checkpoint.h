#pragma once
// A model in files, of any format that can be read: our own and transformers' folders, mamba_ssm's, GGUF. Config and
// tensors are compared before any memory is taken for weights.

#include <map>
#include <memory>
#include <string>

#include "formats/tensor_source.h"
#include "model/hf_config.h"

namespace taipan {

struct Checkpoint {
  std::string path;    // what was opened: a folder or a .gguf file
  std::string format;  // for people: "Llama (transformers)"
  ModelConfig config;
  Naming naming = Naming::kTaipan;
  std::unique_ptr<TensorSource> tensors;

  std::map<std::string, int64_t> ElementTypes() const;  // tensors of each type, "BF16" -> 201
};

// True for the path of a single file that holds a whole model.
bool IsGgufPath(const std::string& path);

// The config of a folder or .gguf file alone.
CheckpointConfig ReadCheckpointConfig(const std::string& path);

// UserError where config and tensors do not fit: the first tensor that is missing, has another shape or is not of this
// architecture, with what was expected and the likely cause.
Checkpoint OpenCheckpoint(const std::string& path);
void CheckTensors(const ModelConfig& config, Naming naming, const TensorSource& tensors);

// Reads one tensor, in our layout. f32 in our shape.
Tensor ReadParameter(const TensorSource& tensors, const ForeignTensor& tensor);

}  // namespace taipan
