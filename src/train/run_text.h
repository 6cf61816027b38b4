#pragma once
// Which tokenizer a run reads text with, and the files that say so in its model folder.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/corpus.h"
#include "data/mixing.h"
#include "train/settings.h"

namespace taipan {

struct RunTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;                    // null: token files only
  std::vector<std::pair<std::string, std::string>> files;  // name and content, for the model folder
  std::string source;                                      // "byte", a path, "none"
  std::shared_ptr<const ChatTemplate> chat;                // null: none that can be used

  void WriteFiles(const std::string& directory) const;
};

// settings.data: paths and tasks (task_source.h), with their weights.
std::vector<WeightedPath> DataOf(const TrainSettings& settings);
std::vector<std::string> FilesOf(const TrainSettings& settings);  // those that are no tasks, without weights

// "byte", a tokenizer file, or a folder that has one.
RunTokenizer LoadRunTokenizer(const std::string& path);
// settings.tokenizer, else the one of the model in weights_directory, else that of shards among the data, else bytes
// where any data is text.
RunTokenizer ChooseTokenizer(const TrainSettings& settings, const std::string& weights_directory);

// The id behind every document that settings.eos means; none where nothing is to stand there. of_model: what the
// model's config names. UserError for a token that the tokenizer, or the vocabulary, does not have.
std::optional<int32_t> ChooseEos(const std::string& eos, const Tokenizer* tokenizer, std::optional<int64_t> of_model,
                                 int64_t vocab_size);
std::string NameOfEos(std::optional<int32_t> eos, const Tokenizer* tokenizer);  // "<|endoftext|>", "7", "none"
// Throws where a run that was begun with `saved` would go on with `now`, both resolved.
void CheckSameEos(const std::string& saved, const std::string& now, const std::string& where);

// Throws where the tokenizer gives ids that the vocabulary does not have.
void CheckVocabulary(const RunTokenizer& tokenizer, int64_t vocab_size, const std::string& model);

// RUN_DIR/data.json: the stamps of data and tokenizer.
void SaveStamps(const std::vector<FileStamp>& stamps, const std::string& path);
// UserError where others were saved there; a warning where none are.
void CheckStamps(const std::vector<FileStamp>& stamps, const std::string& path);

}  // namespace taipan
