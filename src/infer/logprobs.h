#pragma once
// Log-probabilities of a token and of the most likely ones, by the model's own distribution.

#include <cstdint>
#include <span>
#include <vector>

namespace taipan {

struct TokenLogprob {
  int32_t token = 0;
  double logprob = 0;  // natural
};
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most likely first, equal ones by id
};
TokenLogprobs LogprobsOf(std::span<const float> logits, int32_t chosen, int64_t top);

}  // namespace taipan
