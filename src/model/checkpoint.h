#pragma once
// A model in files, of any format that can be read: our own and transformers' folders, mamba_ssm's, GGUF. Config and
// tensors are compared before any memory is taken for weights.

#include <map>
#include <memory>
#include <string>

#include "formats/tensor_source.h"
#include "model/hf_config.h"
#include "model/load_options.h"
#include "model/model_path.h"

namespace taipan {

struct Checkpoint {
  std::string path;    // what was opened: a folder or a GGUF file
  std::string format;  // for people: "Llama (transformers)"
  ModelConfig config;
  Naming naming = Naming::kTaipan;
  std::unique_ptr<TensorSource> tensors;

  std::map<std::string, int64_t> ElementTypes() const;  // tensors of each type, "BF16" -> 201
};

// The config alone, of any path that leads to a model (model_path.h).
CheckpointConfig ReadCheckpointConfig(const std::string& path);

// UserError where config and tensors do not fit: the first tensor that is missing, has another shape or is not of this
// architecture, with what was expected and the likely cause.
Checkpoint OpenCheckpoint(const std::string& path, const LoadOptions& options = {});
// The same tensors under the names of ForeignTensors, and no others (tensor_match.h).
std::unique_ptr<TensorSource> CheckedTensors(const ModelConfig& config, Naming naming,
                                             std::unique_ptr<TensorSource> tensors, const LoadOptions& options);

// Reads one tensor, in our layout. f32 in our shape.
Tensor ReadParameter(const TensorSource& tensors, const ForeignTensor& tensor);

}  // namespace taipan
