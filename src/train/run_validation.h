#pragma once
// What a run validates on, and whether it did; checks of its steps.

#include <cstdint>
#include <memory>
#include <string>

#include "data/corpus.h"
#include "train/run_text.h"
#include "train/trainer.h"

namespace taipan {

// One of the data that a run validates on.
struct ValidPart {
  std::string name;  // as its path ends; of several
  std::unique_ptr<Corpus> corpus;
};

// What a run validates on: a share of its data, other data, a part for each path, what stands beside the training data
// in one folder, or nothing. train: null where it has none to hold out from. options: of the training data.
std::vector<ValidPart> OpenValidation(const TrainSettings& settings, const RunTokenizer& text, Corpus* train,
                                      const CorpusOptions& options, int64_t vocab_size);

std::string DescribeParts(const std::vector<ValidPart>& parts);

// ModelTrainer::Validate on each part, of several on as many tokens of each, and all together.
std::optional<ValidMetrics> ValidateParts(ModelTrainer& trainer, const std::vector<ValidPart>& parts,
                                          const Tokenizer* tokenizer, int64_t max_tokens,
                                          const std::function<bool()>& stop);

// Whether the metrics at `path` say nothing of a validation after this step; false where there are none.
bool LacksValidation(const std::string& path, int64_t step);

void CheckSteps(const TrainSettings& resolved, int64_t made);  // no fewer than the run has made
void CheckWarmUp(const TrainSettings& resolved);               // of a new run: no longer than the run

}  // namespace taipan
