#pragma once
// How likely a model finds continuations of contexts: what multiple-choice evaluations ask for.

#include <functional>
#include <span>
#include <vector>

#include "model/model.h"

namespace taipan {

struct Continuation {
  std::vector<int32_t> context;       // at least one token
  std::vector<int32_t> continuation;  // at least one token
};

struct ContinuationScore {
  double sum_logprob = 0;  // nats: log p(continuation | context)
  bool greedy = true;      // every token of it was the most likely one, the lowest id among equals
};

// Of one token, by the logits after those before it.
struct TokenScore {
  double logprob = 0;     // natural; not finite where the model is damaged
  int64_t likeliest = 0;  // the lowest id among equals
};
TokenScore ScoreToken(std::span<const float> logits, int32_t token);

// Scores in the order of the questions. Equal contexts are read once, however far apart they stand; their state is
// forked for each continuation. Short ones share forwards: in f32 that changes no bit. Memory does not grow with the
// lengths. UserError for ids outside of the vocabulary and log p that is no finite number.
std::vector<ContinuationScore> ScoreContinuations(const LanguageModel& model, std::span<const Continuation> questions,
                                                  const std::function<void(int64_t done)>& progress = nullptr);

}  // namespace taipan
