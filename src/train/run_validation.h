#pragma once
// What a run validates on, and whether it did; checks of its steps.

#include <cstdint>
#include <memory>
#include <string>

#include "data/corpus.h"
#include "train/run_text.h"

namespace taipan {

// What a run validates on: a share of its data, other data, what stands beside the training data in one folder, or
// null. train: null where it has none to hold out from. options: of the training data.
std::unique_ptr<Corpus> OpenValidation(const TrainSettings& settings, const RunTokenizer& text, Corpus* train,
                                       const CorpusOptions& options, int64_t vocab_size);

// Whether the metrics at `path` say nothing of a validation after this step; false where there are none.
bool LacksValidation(const std::string& path, int64_t step);

void CheckSteps(const TrainSettings& resolved, int64_t made);  // no fewer than the run has made
void CheckWarmUp(const TrainSettings& resolved);               // of a new run: no longer than the run

}  // namespace taipan
