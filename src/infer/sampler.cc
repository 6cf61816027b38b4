#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "kernels/arg_max.h"
#include "kernels/exponentials.h"

namespace taipan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

[[noreturn]] void RefuseLogits(std::span<const float> logits, int64_t position) {
  const auto bad = std::find_if(logits.begin(), logits.end(), [](float x) { return !(x < kInfinity); });
  throw UserError(
      {fmt::format("token position {}", position),
       fmt::format("the model's logit of token {} is not a number that can be sampled", bad - logits.begin()),
       "finite logits", fmt::format("{}", *bad), "its weights are damaged or its training diverged"});
}

// Index of the largest logit, the first of equal ones.
size_t Largest(std::span<const float> logits, int64_t position) {
  const ArgMax best = FindLargest(logits);
  const float largest = logits[static_cast<size_t>(best.index)];
  if (best.has_nan || largest == kInfinity) RefuseLogits(logits, position);
  if (largest == -kInfinity) {
    throw UserError({fmt::format("token position {}", position), "no token can be sampled", "a finite logit",
                     "-inf for every token",
                     "the mask allows none, or the weights are damaged or the training diverged"});
  }
  return static_cast<size_t>(best.index);
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
  require(o.typical_p > 0 && o.typical_p <= 1, "typical-p", "above 0, up to 1 (off)", o.typical_p);
  require(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0, "repetition-penalty", "above 0; 1 is off",
          o.repetition_penalty);
  require(std::abs(o.presence_penalty) <= 2, "presence-penalty", "from -2 to 2; 0 is off", o.presence_penalty);
  require(std::abs(o.frequency_penalty) <= 2, "frequency-penalty", "from -2 to 2; 0 is off", o.frequency_penalty);
  require(o.penalty_window >= 0, "penalty-window", "0 (all) or more", static_cast<double>(o.penalty_window));
  for (const auto& [id, bias] : o.logit_bias) {
    require(id >= 0, "logit-bias", "ids from 0 on", id);
    require(std::isfinite(bias), "logit-bias", "a finite number", bias);
  }
}

Sampler::Sampler(const SamplingOptions& options, TokenMask mask) : options_(options), mask_(std::move(mask)) {
  ValidateSampling(options);
}

void Sampler::AddBias() {
  for (const auto& [id, bias] : options_.logit_bias) {
    if (static_cast<size_t>(id) >= logits_.size()) {
      throw UserError({"logit-bias", "token id outside the model's vocabulary",
                       fmt::format("0 to {}", logits_.size() - 1), std::to_string(id)});
    }
    logits_[static_cast<size_t>(id)] += static_cast<float>(bias);
  }
}

void Sampler::Penalize(std::span<const int32_t> history) {
  const size_t window = static_cast<size_t>(options_.penalty_window);
  if (window > 0 && history.size() > window) history = history.last(window);
  counts_.resize(logits_.size());
  const auto in_range = [&](int32_t id) { return static_cast<size_t>(id) < logits_.size(); };
  for (const int32_t id : history) {
    if (in_range(id)) ++counts_[static_cast<size_t>(id)];
  }
  const float repetition = static_cast<float>(options_.repetition_penalty);
  for (const int32_t id : history) {
    if (!in_range(id) || counts_[static_cast<size_t>(id)] == 0) continue;
    float& logit = logits_[static_cast<size_t>(id)];
    const int32_t count = std::exchange(counts_[static_cast<size_t>(id)], 0);  // once
    logit = logit < 0 ? logit * repetition : logit / repetition;
    logit -= static_cast<float>(options_.frequency_penalty * count + options_.presence_penalty);
  }
}

std::span<const float> Sampler::Processed(std::span<const float> logits, std::span<const int32_t> history,
                                          int64_t generated) {
  if (options_.logit_bias.empty() && !needs_history()) return logits;
  logits_.assign(logits.begin(), logits.end());
  AddBias();
  if (options_.penalizes()) Penalize(history);
  if (!mask_) return logits_;
  allowed_.assign(logits_.size(), true);
  mask_(history.last(static_cast<size_t>(generated)), allowed_);
  CHECK_EQ(allowed_.size(), logits_.size());
  for (size_t i = 0; i < logits_.size(); ++i) {
    if (!allowed_[i]) logits_[i] = -std::numeric_limits<float>::infinity();
  }
  return logits_;
}

// Every filter keeps a beginning of the tokens ordered by probability, so they are popped from a heap until one of the
// filters ends the list. Probabilities are relative to the largest (1) here. Those that no filter can reach do not even
// come to the heap: without top-k all of them together are less than what top-p leaves out.
void Sampler::KeepMostLikely() {
  double total = 0;  // of what top-k left; top-p refers to it
  const size_t n = weights_.size(), limit = static_cast<size_t>(options_.top_k);
  const bool limited = options_.top_k > 0 && limit < n;
  for (const double weight : weights_) total += weight;
  const double least =
      limited ? 0.0 : std::max(options_.min_p, (1 - options_.top_p) / 2 * total / static_cast<double>(n));
  for (size_t i = 0; i < n; ++i) {
    if (weights_[i] >= least) candidates_.push_back({static_cast<int32_t>(i), weights_[i]});
  }
  if (limited) {
    // A sum over the k largest in descending order: it must not depend on their arrangement.
    auto more_likely = [](const Candidate& a, const Candidate& b) { return LessLikely(b, a); };
    std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(limit), candidates_.end(),
                      more_likely);
    candidates_.resize(limit);
    total = 0;
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

// Tokens whose surprise, -log p, is nearest to the distribution's mean one (Meister et al., 2023).
void Sampler::KeepTypical() {
  double total = 0, entropy = 0;
  for (const Candidate& c : candidates_) total += c.probability;
  for (Candidate& c : candidates_) {
    c.probability /= total;
    if (c.probability > 0) entropy -= c.probability * std::log(c.probability);
  }
  const auto distance = [&](const Candidate& c) { return std::abs(-std::log(c.probability) - entropy); };
  std::vector<Candidate> nearest(candidates_);
  std::sort(nearest.begin(), nearest.end(),
            [&](const Candidate& a, const Candidate& b) { return distance(a) < distance(b); });
  size_t last = 0;
  for (double sum = 0; last + 1 < nearest.size(); ++last) {
    sum += nearest[last].probability;
    if (sum >= options_.typical_p) break;
  }
  const double most = distance(nearest[last]);
  std::erase_if(candidates_, [&](const Candidate& c) { return distance(c) > most; });
}

std::span<const Candidate> Sampler::Distribution(std::span<const float> raw, int64_t position,
                                                 std::span<const int32_t> history, int64_t generated) {
  const size_t best_of_raw = Largest(raw, position);  // refuses what is no number
  const std::span<const float> logits = Processed(raw, history, generated);
  const size_t best = logits.data() == raw.data() ? best_of_raw : Largest(logits, position);
  candidates_.clear();
  if (options_.temperature == 0) {
    candidates_.push_back({static_cast<int32_t>(best), 1.0});
    return candidates_;
  }
  weights_.resize(logits.size());
  Exponentials(logits, logits[best], options_.temperature, weights_.data());
  if (options_.top_k > 0 || options_.top_p < 1 || options_.min_p > 0) {
    KeepMostLikely();
  } else {
    for (size_t i = 0; i < weights_.size(); ++i) candidates_.push_back({static_cast<int32_t>(i), weights_[i]});
  }
  if (options_.typical_p < 1) KeepTypical();
  double total = 0;
  for (const Candidate& c : candidates_) total += c.probability;
  for (Candidate& c : candidates_) c.probability /= total;
  return candidates_;
}

int32_t Sampler::Sample(std::span<const float> logits, int64_t position, std::span<const int32_t> history,
                        int64_t generated) {
  const std::span<const Candidate> candidates = Distribution(logits, position, history, generated);
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
