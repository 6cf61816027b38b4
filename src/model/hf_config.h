#pragma once
// config.json as other programs write it: transformers, whose formats are listed in hf_format.h, and the original
// mamba_ssm.

#include <string>

#include "model/config.h"
#include "model/tensor_names.h"

namespace taipan {

struct CheckpointConfig {
  ModelConfig config;
  Naming naming = Naming::kTaipan;  // of the tensors beside it
  std::string format = {};          // of transformers, for people: "Llama"; else empty
};

// Of any architecture, checked (config_validate.h). LoadModelConfig also reads generation_config.json beside the file
// of another program.
ModelConfig ParseModelConfig(const std::string& json_text, const std::string& where);
ModelConfig LoadModelConfig(const std::string& path);

// Of any architecture that runs here, by its model_type. UserErrors name `where`: an unknown architecture (with the
// list of known ones), an option that changes the computation and is not supported, missing or impossible sizes. Keys
// that do not change the computation are not looked at.
CheckpointConfig ParseCheckpointConfig(const std::string& json_text, const std::string& where);
CheckpointConfig LoadCheckpointConfig(const std::string& path);

// config.json for a naming other than kTaipan and kGguf. UserError naming `where` (the model) and what that format
// cannot say.
std::string ForeignConfigJson(const ModelConfig& config, Naming naming, const std::string& dtype,
                              const std::string& where);
// The naming of transformers that can hold this model. UserError where there is none.
Naming TransformersNaming(const ModelConfig& config, const std::string& where);

}  // namespace taipan
