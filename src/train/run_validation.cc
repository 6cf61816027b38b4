#include "train/run_validation.h"

#include <fmt/format.h>

#include <vector>

#include "base/error.h"
#include "base/files.h"

namespace taipan {

std::unique_ptr<Corpus> OpenValidation(const TrainSettings& settings, const Tokenizer* tokenizer, Corpus& train) {
  std::unique_ptr<Corpus> valid;
  std::vector<std::string> paths = settings.valid_data;
  if (settings.valid_split > 0) {
    const int64_t all = train.size();
    valid = train.HoldOut(settings.valid_split);
    if (train.size() <= settings.context && all > settings.context) {
      throw UserError({"--valid-split", "leaves too little to train on",
                       fmt::format("more than --context {} tokens", settings.context),
                       fmt::format("{} of {}", train.size(), all)});
    }
    paths = {"--valid-split"};
  } else {
    if (paths.empty()) paths = FindData(settings.data, DataUse::kTraining).valid;
    if (paths.empty()) return nullptr;
    valid = std::make_unique<Corpus>(paths, tokenizer, train.vocab_size(),
                                     CorpusOptions{.use = DataUse::kValidation, .eos = train.eos()});
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
