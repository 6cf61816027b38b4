#include "train/run_validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

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

// tokens: of a validation.
void CheckScored(const ValidPart& part, bool separate, int64_t tokens) {
  if (separate && !AnyScored(*part.corpus, tokens)) {
    throw UserError({part.name, "none of the tokens to validate on is scored: all begin a document or carry no loss",
                     fmt::format("one among the first {}", tokens), "none"});
  }
  if (part.corpus->size() >= 2) return;
  throw UserError({part.name, "too short to validate on", "at least 2 tokens", fmt::format("{}", part.corpus->size())});
}

// Of the tokens of a validation, for each part.
int64_t ShareOf(int64_t tokens, const std::vector<ValidPart>& parts) {
  return std::max<int64_t>(1, tokens / static_cast<int64_t>(parts.size()));
}

// The last parts of paths where they differ, else the whole.
void NameParts(std::vector<ValidPart>& parts) {
  std::set<std::string> names;
  const auto short_name = [](const std::string& path) {
    const auto given = std::filesystem::path(path);
    return (given.has_filename() ? given : given.parent_path()).filename().string();
  };
  for (const ValidPart& part : parts) names.insert(short_name(part.name));
  if (names.size() < parts.size()) return;
  for (ValidPart& part : parts) part.name = short_name(part.name);
}

}  // namespace

std::vector<ValidPart> OpenValidation(const TrainSettings& settings, const RunTokenizer& text, Corpus* train,
                                      const CorpusOptions& options, int64_t vocab_size) {
  std::vector<ValidPart> parts;
  if (settings.valid_split > 0) {
    if (train == nullptr) throw UserError({"--valid-split", "tasks have no end to hold out", "--valid-data", "a task"});
    const int64_t all = train->size();
    parts.push_back({"--valid-split", train->HoldOut(settings.valid_split)});
    if (train->size() <= settings.context && all > settings.context) {
      throw UserError({"--valid-split", "leaves too little to train on",
                       fmt::format("more than --context {} tokens", settings.context),
                       fmt::format("{} of {}", train->size(), all)});
    }
  } else {
    CorpusOptions of_valid = options;
    of_valid.use = DataUse::kValidation;
    const auto open = [&](const std::vector<std::string>& paths) {
      parts.push_back({paths[0], std::make_unique<Corpus>(paths, text.tokenizer.get(), vocab_size, of_valid)});
    };
    for (const std::string& path : settings.valid_data) open({path});
    const std::vector<std::string> beside =
        parts.empty() ? FindData(FilesOf(settings), DataUse::kTraining).valid : std::vector<std::string>();
    if (!beside.empty()) open(beside);
  }
  for (const ValidPart& part : parts) {
    CheckScored(part, settings.packing == DocumentPacking::kDocuments, ShareOf(settings.valid_tokens, parts));
  }
  NameParts(parts);
  return parts;
}

std::string DescribeParts(const std::vector<ValidPart>& parts) {
  std::string all;
  for (const ValidPart& part : parts) all += (all.empty() ? "" : "; ") + part.corpus->Describe();
  return all;
}

std::optional<ValidMetrics> ValidateParts(ModelTrainer& trainer, const std::vector<ValidPart>& parts,
                                          const Tokenizer* tokenizer, int64_t max_tokens,
                                          const std::function<bool()>& stop) {
  if (parts.size() == 1) return trainer.Validate(*parts[0].corpus, tokenizer, max_tokens, stop);
  std::vector<ValidMetrics> all;
  for (const ValidPart& part : parts) {
    std::optional<ValidMetrics> m = trainer.Validate(*part.corpus, tokenizer, ShareOf(max_tokens, parts), stop);
    if (!m) return std::nullopt;
    m->source = part.name;
    all.push_back(std::move(*m));
  }
  return Together(std::move(all));
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
