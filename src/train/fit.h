#pragma once
// Refuses a training run that memory cannot hold, before anything is allocated.

#include <cstdint>

#include "train/settings.h"

namespace taipan {

// available: bytes that the process, one of `ranks`, may still take. UserError with the plan and the flags that would
// make it fit.
void CheckFits(const ModelConfig& config, const TrainSettings& resolved, int64_t available, int64_t ranks = 1);

// Whether there is room beside all that for a copy of what a checkpoint holds.
bool HasRoomForCopy(const ModelConfig& config, const TrainSettings& resolved, int64_t available, int64_t ranks = 1);

}  // namespace taipan
