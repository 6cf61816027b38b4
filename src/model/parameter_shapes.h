#pragma once
// Names and shapes of a model's parameters from its config alone, so that files can be checked before memory is taken.

#include <string>
#include <vector>

#include "model/config.h"

namespace taipan {

struct ParameterShape {
  std::string name;            // as ModelParams::ForEach has it
  std::vector<int64_t> shape;  // as our own files hold it
};

// Of a valid config, in the order of ModelParams::ForEach.
std::vector<ParameterShape> ParameterShapes(const ModelConfig& config);

}  // namespace taipan
