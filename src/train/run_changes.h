#pragma once
// What a resumed run does otherwise than the run that it continues.

#include "train/settings.h"

namespace taipan {

// Says so, from step `next` on.
void NoteChanges(const TrainSettings& saved, const TrainSettings& now, int64_t next);

}  // namespace taipan
