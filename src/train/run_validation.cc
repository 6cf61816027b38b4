#include "train/run_validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "data/packing.h"

namespace taipan {

namespace {

bool AnyScored(const Corpus& corpus, int64_t tokens) {
  if (corpus.size() < 2) return true;  // another error
  for (const Piece& piece : PiecesBetween(corpus, 0, std::min(tokens, corpus.size() - 1))) {
    std::vector<float> weights(static_cast<size_t>(piece.inputs));
    corpus.ReadWeights(piece.begin + 1, piece.inputs, weights.data());
    if (std::any_of(weights.begin(), weights.end(), [](float w) { return w > 0; })) return true;
  }
  return false;
}

}  // namespace

std::unique_ptr<Corpus> OpenValidation(const TrainSettings& settings, const RunTokenizer& text, Corpus* train,
                                       const CorpusOptions& options, int64_t vocab_size) {
  std::unique_ptr<Corpus> valid;
  std::vector<std::string> paths = settings.valid_data;
  if (settings.valid_split > 0) {
    if (train == nullptr) throw UserError({"--valid-split", "tasks have no end to hold out", "--valid-data", "a task"});
    const int64_t all = train->size();
    valid = train->HoldOut(settings.valid_split);
    if (train->size() <= settings.context && all > settings.context) {
      throw UserError({"--valid-split", "leaves too little to train on",
                       fmt::format("more than --context {} tokens", settings.context),
                       fmt::format("{} of {}", train->size(), all)});
    }
    paths = {"--valid-split"};
  } else {
    if (paths.empty()) paths = FindData(FilesOf(settings), DataUse::kTraining).valid;
    if (paths.empty()) return nullptr;
    CorpusOptions of_valid = options;
    of_valid.use = DataUse::kValidation;
    valid = std::make_unique<Corpus>(paths, text.tokenizer.get(), vocab_size, of_valid);
  }
  if (settings.packing == DocumentPacking::kDocuments && !AnyScored(*valid, settings.valid_tokens)) {
    throw UserError({paths[0], "none of the tokens to validate on is scored: all begin a document or carry no loss",
                     fmt::format("one among the first {}", settings.valid_tokens), "none"});
  }
  if (valid->size() >= 2) return valid;
  throw UserError({paths[0], "too short to validate on", "at least 2 tokens", fmt::format("{}", valid->size())});
}

bool LacksValidation(const std::string& path, int64_t step) {
  return PathExists(path) && ReadFile(path).find(fmt::format("{{\"step\":{},\"valid_ce\":", step)) == std::string::npos;
}

void CheckSteps(const TrainSettings& resolved, int64_t made) {
  if (resolved.steps >= made) return;
  throw UserError({"--steps", "the run has made more steps already", fmt::format("at least {}", made),
                   fmt::format("{}", resolved.steps)});
}

void CheckWarmUp(const TrainSettings& resolved) {
  if (*resolved.warmup_steps <= resolved.steps) return;
  throw UserError({"--warmup-steps", "longer than the run", fmt::format("at most {}", resolved.steps),
                   std::to_string(*resolved.warmup_steps)});
}

}  // namespace taipan
