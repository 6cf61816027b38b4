#pragma once
// From logits to a token, in the order and by the definitions of Hugging Face's generate: logit bias, penalties, mask;
// then greedy, or a draw after temperature, top-k, top-p, min-p and typical-p. A draw depends on the logits, the seed
// and the token's position alone.

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace taipan {

struct SamplingOptions {
  double temperature = 0.8;  // 0: greedy, the first of equal logits
  int64_t top_k = 0;         // keep the k most likely tokens; 0: all
  double top_p = 0.95;       // keep the fewest most likely tokens whose probabilities reach this sum; 1: all
  double min_p = 0.0;        // drop tokens less likely than this times the most likely one; 0: none
  uint64_t seed = 0;
  double typical_p = 1;  // keep those nearest to the expected surprise whose probabilities reach this sum; 1: all
  // Of tokens among the last penalty_window of the sequence (0: all), its prompt included:
  double repetition_penalty = 1;  // divides their logits above 0, multiplies those below; 1: off
  double presence_penalty = 0;    // subtracted once
  double frequency_penalty = 0;   // subtracted for each time
  int64_t penalty_window = 0;
  std::vector<std::pair<int32_t, double>> logit_bias = {};  // added to the logits of these ids

  bool penalizes() const { return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0; }
};
// Says which tokens may come next, given those generated so far: `allowed` [V] is true everywhere at first.
using TokenMask = std::function<void(std::span<const int32_t> generated, std::vector<bool>& allowed)>;

// UserError for values out of range.
void ValidateSampling(const SamplingOptions& options);

struct Candidate {
  int32_t id = 0;
  double probability = 0;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options, TokenMask mask = nullptr);

  // The token at `position` of its sequence, given the logits [V] after the tokens before it. history: those tokens, as
  // far as they are known, for penalties; its last `generated` are for the mask.
  int32_t Sample(std::span<const float> logits, int64_t position, std::span<const int32_t> history = {},
                 int64_t generated = 0);
  bool needs_history() const { return options_.penalizes() || mask_; }

  // What a draw chooses from: the tokens that the filters left, probabilities that add up to 1. Most likely first
  // (equal ones by id) where a filter is on, by id otherwise. Valid until the next call.
  std::span<const Candidate> Distribution(std::span<const float> logits, int64_t position,
                                          std::span<const int32_t> history = {}, int64_t generated = 0);

 private:
  std::span<const float> Processed(std::span<const float> logits, std::span<const int32_t> history, int64_t generated);
  void AddBias();
  void Penalize(std::span<const int32_t> history);
  void KeepMostLikely();
  void KeepTypical();

  SamplingOptions options_;
  TokenMask mask_;
  std::vector<float> logits_;    // what bias, penalties and mask made of them
  std::vector<int32_t> counts_;  // [V] of tokens in the window; 0 between calls
  std::vector<bool> allowed_;
  std::vector<double> weights_;        // [V] probabilities relative to the largest
  std::vector<Candidate> candidates_;  // reused
};

}  // namespace taipan
