#pragma once
// The data of a run and how its text is read.

#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "train/batch_source.h"
#include "train/run_text.h"
#include "train/run_validation.h"

namespace taipan {

struct TrainingPart {
  std::unique_ptr<Corpus> corpus;  // null: the task
  std::string task = {};
  double weight = 0;  // 0: it is all there is
};

struct RunData {
  RunTokenizer text;
  std::vector<TrainingPart> train;  // one, or one for each path that has a weight
  int64_t vocab_size = 0;
  std::optional<int32_t> eos = {};  // behind every document
  std::vector<ValidPart> valid;     // may be none
  std::vector<FileStamp> stamps;    // of the training data and the tokenizer's files

  Corpus* first() const;         // null: there are only tasks
  std::string Describe() const;  // the training data
  // DataChanged for the first file with other content than it had when it was opened, read again or not.
  void CheckUnchanged() const;
};

// Resolves settings.eos. model_directory: where the model's tokenizer is. follow: the vocabulary is the tokenizer's,
// where there is one.
RunData OpenData(TrainSettings& settings, const std::string& model_directory, const ModelConfig& config, bool follow);

// Rows of the training data, as the settings mix, order and pack them. It reads data.train, which must outlive it.
std::shared_ptr<const BatchSource> MakeSource(const TrainSettings& settings, const RunData& data);

}  // namespace taipan
