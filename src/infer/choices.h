#pragma once
// Several continuations of one sequence, drawn side by side from forks of its state; those that the model itself finds
// most likely are chosen.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "infer/batcher.h"

namespace taipan {

constexpr int64_t kMostCandidates = 1024;

struct ChoiceOptions {
  int64_t n = 1, best_of = 1;  // how many are chosen, of how many that are drawn
  bool keep_states = false, keep_logprobs = false;
  // Told of each token of a candidate but its stop token; false ends the candidate. May be null.
  std::function<bool(int64_t candidate, int32_t token)> on_token = nullptr;
  std::function<bool()> stop = nullptr;  // asked before each step: whether all end there. May be null.
};

// UserError for numbers out of range, and at temperature 0, where all candidates are the same. It names prefix + "n" or
// prefix + "best-of".
void ValidateChoices(const ChoiceOptions& options, const SamplingOptions& sampling, const std::string& prefix = "");

// Candidate i has the seed of the options + i, modulo 2^64: alone with that seed it is the same text.
struct Choice {
  int64_t candidate = 0, id = 0;  // from 0; of the batcher
  uint64_t seed = 0;
  std::vector<int32_t> tokens = {};          // without the stop token
  std::vector<TokenLogprobs> logprobs = {};  // with keep_logprobs: of these, with the options' top_logprobs
  // Natural, a token, the stop token included, by the model's own distribution; 0 where none was drawn.
  double mean_logprob = 0;
  BatchResult result = {};
};

struct Choices {
  std::vector<Choice> best = {};  // the n with the highest mean, from there down; equal ones in their order
  int64_t generated_tokens = 0;   // of all candidates, stop tokens included
  double seconds = 0;
  SelectionCounts selection = {};  // of the tokens generated
};

// `from` must have logits; options.on_logprobs is not called.
Choices GenerateChoices(const LanguageModel& model, const SequenceSnapshot& from, const GenerationOptions& options,
                        const ChoiceOptions& choices);

}  // namespace taipan
