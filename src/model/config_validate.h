#pragma once
// What the keys of a config must satisfy.

#include <string>

#include "model/config.h"

namespace taipan {

// The whole config. UserError naming `where` (a file or preset) and the key.
void ValidateModelConfig(const ModelConfig& config, const std::string& where);
// bf16 products pair up rows: UserError where d_state or a head's width is odd.
void CheckAllowsBF16(const ModelConfig& config);

// What the keys of each kind of layer must satisfy: for the rows of the layer table.
void ValidateMamba2(const ModelConfig& config, const std::string& where);
void ValidateAttention(const ModelConfig& config, const std::string& where);
void ValidateWindow(const ModelConfig& config, const std::string& where);
void ValidateSelection(const ModelConfig& config, const std::string& where);
void ValidateMlp(const ModelConfig& config, const std::string& where);

}  // namespace taipan
