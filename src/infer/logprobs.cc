#include "infer/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace taipan {

TokenLogprobs LogprobsOf(std::span<const float> logits, int32_t chosen, int64_t top) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  const auto of = [&](int32_t token) { return TokenLogprob{token, logits[static_cast<size_t>(token)] - log_sum}; };
  TokenLogprobs result{of(chosen), {}};
  if (top == 0) return result;
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min(top, static_cast<int64_t>(ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  for (auto id = ids.begin(); id != end; ++id) result.top.push_back(of(*id));
  return result;
}

}  // namespace taipan
