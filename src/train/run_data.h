#pragma once
// The data of a run and how its text is read.

#include <memory>
#include <vector>

#include "model/config.h"
#include "train/run_text.h"

namespace taipan {

struct RunData {
  RunTokenizer text;
  std::unique_ptr<Corpus> train, valid;  // valid may be null
  std::vector<FileStamp> stamps;         // of the training data and the tokenizer's files
};

// Resolves settings.eos. model_directory: where the model's tokenizer is. follow: the vocabulary is the tokenizer's,
// where there is one.
RunData OpenData(TrainSettings& settings, const std::string& model_directory, const ModelConfig& config, bool follow);

}  // namespace taipan
