#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/rng.h"

namespace taipan {
namespace {

// Index of the largest logit, the first of equal ones.
size_t Largest(std::span<const float> logits, int64_t position) {
  CHECK(!logits.empty());
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity()) {
      throw UserError({fmt::format("token position {}", position),
                       fmt::format("the model's logit of token {} is not a number that can be sampled", i),
                       "finite logits", fmt::format("{}", logits[i]),
                       "its weights are damaged or its training diverged"});
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (std::isinf(logits[best])) {
    throw UserError({fmt::format("token position {}", position), "no token can be sampled", "a finite logit",
                     "-inf for every token", "its weights are damaged or its training diverged"});
  }
  return best;
}

// Heap order: the most likely on top, equal ones by id.
bool LessLikely(const Candidate& a, const Candidate& b) {
  return a.probability < b.probability || (a.probability == b.probability && a.id > b.id);
}

}  // namespace

void ValidateSampling(const SamplingOptions& o) {
  auto require = [](bool ok, const char* name, const char* expected, double found) {
    if (!ok) throw UserError({name, "value out of range", expected, fmt::format("{}", found)});
  };
  require(std::isfinite(o.temperature) && o.temperature >= 0, "temperature", "0 (greedy) or more", o.temperature);
  require(o.top_k >= 0, "top-k", "0 (off) or more", static_cast<double>(o.top_k));
  require(o.top_p >= 0 && o.top_p <= 1, "top-p", "from 0 (the most likely token) to 1 (off)", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min-p", "from 0 (off) to 1", o.min_p);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options) { ValidateSampling(options); }

// Every filter keeps a beginning of the tokens ordered by probability, so they are popped from a heap until one of the
// filters ends the list. Probabilities are relative to the largest (1) here.
void Sampler::KeepMostLikely() {
  const size_t n = candidates_.size();
  const size_t limit = options_.top_k > 0 ? std::min(static_cast<size_t>(options_.top_k), n) : n;
  double total = 0;  // of what top-k left; top-p refers to it
  if (limit == n) {
    for (const Candidate& c : candidates_) total += c.probability;
  } else {
    // nth_element and a sum over the k largest in descending order: the sum must not depend on their arrangement.
    auto more_likely = [](const Candidate& a, const Candidate& b) { return LessLikely(b, a); };
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(limit), candidates_.end(),
                      more_likely);
    candidates_.resize(limit);
    for (const Candidate& c : candidates_) total += c.probability;
  }
  std::make_heap(candidates_.begin(), candidates_.end(), LessLikely);
  auto heap_end = candidates_.end();
  double cumulative = 0;
  while (heap_end != candidates_.begin()) {
    const double next = candidates_.front().probability;
    const bool first = heap_end == candidates_.end();
    if (!first && (next < options_.min_p || (options_.top_p < 1 && cumulative >= options_.top_p * total))) break;
    std::pop_heap(candidates_.begin(), heap_end, LessLikely);
    --heap_end;
    cumulative += next;
  }
  candidates_.erase(candidates_.begin(), heap_end);
  std::reverse(candidates_.begin(), candidates_.end());
}

std::span<const Candidate> Sampler::Distribution(std::span<const float> logits, int64_t position) {
  const size_t best = Largest(logits, position);
  candidates_.clear();
  if (options_.temperature == 0) {
    candidates_.push_back({static_cast<int32_t>(best), 1.0});
    return candidates_;
  }
  const double largest = logits[best];
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_.push_back({static_cast<int32_t>(i), std::exp((logits[i] - largest) / options_.temperature)});
  }
  if (options_.top_k > 0 || options_.top_p < 1 || options_.min_p > 0) KeepMostLikely();
  double total = 0;
  for (const Candidate& c : candidates_) total += c.probability;
  for (Candidate& c : candidates_) c.probability /= total;
  return candidates_;
}

int32_t Sampler::Sample(std::span<const float> logits, int64_t position) {
  const std::span<const Candidate> candidates = Distribution(logits, position);
  const double u = RandomUniform({options_.seed, kSampleStream, 0}, static_cast<uint64_t>(position));
  double cumulative = 0;
  for (const Candidate& c : candidates) {
    cumulative += c.probability;
    if (u < cumulative) return c.id;
  }
  // Rounding can leave the sum of the probabilities a little below u; the last token that is possible takes it.
  for (size_t i = candidates.size(); i-- > 0;) {
    if (candidates[i].probability > 0) return candidates[i].id;
  }
  CHECK(false);
  return 0;
}

}  // namespace taipan
