#pragma once
// What the keys of each kind of layer must satisfy: for the rows of the layer table. ValidateModelConfig (config.h)
// checks a whole config.

#include <string>

#include "model/config.h"

namespace taipan {

void ValidateMamba2(const ModelConfig& config, const std::string& where);
void ValidateAttention(const ModelConfig& config, const std::string& where);
void ValidateWindow(const ModelConfig& config, const std::string& where);
void ValidateSelection(const ModelConfig& config, const std::string& where);
void ValidateMlp(const ModelConfig& config, const std::string& where);

}  // namespace taipan
