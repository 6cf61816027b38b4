#pragma once
// Settings that were asked for and change nothing.

#include <set>
#include <string>

#include "train/settings.h"

namespace taipan {

// "--budget, --gate-bias: the model has no selective attention layers; --valid-every: ..." of the keys in `given` that
// do nothing in a run of `s`; "" where all act. new_weights: the run initialises them.
std::string WithoutEffect(const std::set<std::string>& given, const TrainSettings& resolved, const ModelConfig& config,
                          bool new_weights);

}  // namespace taipan
