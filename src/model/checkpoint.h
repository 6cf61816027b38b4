#pragma once
// A model in files, of any format that can be read: our own and transformers' folders, mamba_ssm's, GGUF. It is opened
// once and handed to whoever reads weights, tokenizer or chat template. Config and tensors are compared before any
// memory is taken for weights.

#include <map>
#include <memory>
#include <string>

#include "formats/gguf.h"
#include "model/hf_config.h"
#include "model/load_options.h"
#include "model/model_path.h"

namespace taipan {

class Checkpoint {
 public:
  std::string path;    // what was opened: a folder or a GGUF file
  std::string format;  // for people: "Llama (transformers)"
  ModelConfig config;
  Naming naming = Naming::kTaipan;
  std::shared_ptr<const GgufFile> gguf;  // null: a folder
  OpenOptions options;

  // Under the names of ForeignTensors, and no others. Opened and compared with the config at the first call: UserError
  // for the first tensor that is missing, has another shape or is not of this architecture, with what was expected and
  // the likely cause.
  const TensorSource& Tensors() const;
  // The same, compared with another config.
  std::shared_ptr<const TensorSource> TensorsFor(const ModelConfig& other) const;
  std::map<std::string, int64_t> ElementTypes() const;  // tensors of each type, "BF16" -> 201

 private:
  mutable std::shared_ptr<const TensorSource> tensors_;
};

// Of any path that leads to a model (model_path.h): its config is read, its tensors when they are asked for.
Checkpoint OpenCheckpoint(const std::string& path, const OpenOptions& options = {});

// `tensors` under the names of ForeignTensors, compared with the config.
std::shared_ptr<const TensorSource> CheckedTensors(const ModelConfig& config, Naming naming,
                                                   std::shared_ptr<const TensorSource> tensors,
                                                   const OpenOptions& options);

// Reads one tensor, or the part that the parameter is, in our layout and the file's shape.
Tensor ReadParameter(const TensorSource& tensors, const ForeignTensor& tensor);
// Into memory that is there: f32, or bf16 where the layout moves rows at most.
void ReadParameterInto(const TensorSource& tensors, const ForeignTensor& tensor, Tensor& to);

}  // namespace taipan
