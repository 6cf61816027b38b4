#pragma once
// rope_scaling of config.json, as Hugging Face spells it, and the frequencies that come of it.

#include "base/fields.h"
#include "model/config.h"

namespace taipan {

// From the value of rope_scaling or rope_parameters: null and rope_type "default" are none. Older files say "type" for
// rope_type; rope_theta and partial_rotary_factor may stand beside it and are left to the caller. UserError naming
// `where` for other types (yarn, dynamic, ...) and unknown keys.
std::optional<RopeScaling> ParseRopeScaling(const Json& value, const std::string& where);
Json RopeScalingJson(const RopeScaling& scaling);

// Inverse frequencies [rotary_dim / 2] with the scaling; empty without rope_theta.
std::vector<double> RopeFrequencies(const ModelConfig& config);

// By which each of the inverse frequencies [rotary_dim / 2] is divided, all 1 without scaling.
std::vector<double> RopeFrequencyDivisors(const ModelConfig& config);

}  // namespace taipan
