#pragma once
// Places drawn by a power law.

#include <vector>

#include "base/rng.h"

namespace taipan {

// The first `count` of [0, places) drawn without replacement, i with a weight of (i + 1)^(power - 1).
std::vector<int64_t> RandomByPowerLaw(const RandomKey& key, int64_t places, int64_t count, double power);

}  // namespace taipan
