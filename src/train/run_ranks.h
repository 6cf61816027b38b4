#pragma once
// A run on several ranks: what the first one tells the others before the first step, and what they do.

#include <string>

#include "train/ranks.h"
#include "train/run_data.h"
#include "train/settings.h"

namespace taipan {

// Throws where the rows of a step, or the parts of a row, cannot be shared out.
void CheckRanks(const TrainSettings& resolved, const ModelConfig& config, int ranks);

// By the first rank, when everything is known and nothing is written: the others open the same data (the tokenizer may
// be that of tokenizer_folder) and wait for the first task. UserError, naming the rank, where one was asked for
// something else or sees other data.
void InviteRanks(Ranks& ranks, const TrainSettings& resolved, const ModelConfig& config,
                 const std::string& tokenizer_folder, const RunData& data);

// By the others: until the first rank ends.
void FollowTraining(Ranks& ranks);

}  // namespace taipan
