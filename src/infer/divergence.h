#pragma once
// How far one model's predictions are from another's, on a text.

#include <functional>
#include <span>

#include "model/model.h"

namespace taipan {

struct Divergence {
  int64_t scored = 0;                    // tokens; the first of each window has none before it
  double nll_before = 0, nll_after = 0;  // nats, sums
  double mean_kl = 0, high_kl = 0;       // nats a token of KL(before || after): mean, 99.9th percentile
  double same_top = 0;                   // share of tokens before which both have the same likeliest one
};

// Windows of `context` tokens, each read from a fresh state. Models of one vocabulary.
Divergence CompareModels(const LanguageModel& before, const LanguageModel& after, std::span<const int32_t> tokens,
                         int64_t context, const std::function<void(int64_t tokens_done)>& on_progress = nullptr);

}  // namespace taipan
