#pragma once
// What a run begins from: what its folder holds, the settings and the data. Nothing is changed yet.

#include <string>

#include "train/checkpoints.h"
#include "train/run.h"
#include "train/run_data.h"

namespace taipan {

struct RunOpening {
  bool continues = false;   // a run that made steps before
  CheckpointChoice choice;  // of what to continue from
  TrainSettings saved;      // of the run that is continued
  TrainSettings settings;   // resolved
  RunData data;
  ModelConfig config;
  std::string tokenizer_folder;  // where the model's tokenizer is; "": nowhere
};

// UserError for everything that keeps the run from beginning.
RunOpening OpenRun(const RunRequest& request, const Checkpoints& checkpoints);

}  // namespace taipan
