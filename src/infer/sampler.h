#pragma once
// From logits to a token: greedy, or a draw after temperature, top-k, top-p and min-p, in this order (as Hugging Face's
// generate applies them). A draw depends on the seed and the token's position alone.

#include <cstdint>
#include <span>
#include <vector>

namespace taipan {

struct SamplingOptions {
  double temperature = 0.8;  // 0: greedy, the first of equal logits
  int64_t top_k = 0;         // keep the k most likely tokens; 0: all
  double top_p = 0.95;       // keep the fewest most likely tokens whose probabilities reach this sum; 1: all
  double min_p = 0.0;        // drop tokens less likely than this times the most likely one; 0: none
  uint64_t seed = 0;
};

// UserError for values out of range.
void ValidateSampling(const SamplingOptions& options);

struct Candidate {
  int32_t id = 0;
  double probability = 0;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  // The token at `position` of its sequence, given the logits [V] after the tokens before it.
  int32_t Sample(std::span<const float> logits, int64_t position);

  // What a draw chooses from: the tokens that the filters left, probabilities that add up to 1. Most likely first
  // (equal ones by id) where a filter is on, by id otherwise. Valid until the next call.
  std::span<const Candidate> Distribution(std::span<const float> logits, int64_t position);

 private:
  void KeepMostLikely();

  SamplingOptions options_;
  std::vector<Candidate> candidates_;  // reused
};

}  // namespace taipan
