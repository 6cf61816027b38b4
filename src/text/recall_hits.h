#pragma once
// Recall hits: tokens that an attentive reader could copy. What attention brings over a recurrent state shows there
// (Zoology, arXiv 2312.04927, section 3.2).

#include <cstdint>
#include <span>
#include <vector>

namespace taipan {

// hit[i] of the target tokens[i + 1]: whether it completes a bigram (tokens[i], tokens[i + 1]) of the same context that
// stood there before, the last time `reach` tokens or more back, out of sight of a convolution of that width.
std::vector<bool> RecallHits(std::span<const int32_t> tokens, int64_t reach);

// Losses on recall hits and on all other targets.
struct RecallLoss {
  double hit_nll = 0, other_nll = 0;  // sums, nats
  int64_t hits = 0, others = 0;

  void Add(bool hit, double logprob) {
    (hit ? hit_nll : other_nll) -= logprob;
    ++(hit ? hits : others);
  }
  double hit_ce() const { return hits > 0 ? hit_nll / static_cast<double>(hits) : 0; }  // nats a token
  double other_ce() const { return others > 0 ? other_nll / static_cast<double>(others) : 0; }
  double hit_share() const { return hits > 0 ? static_cast<double>(hits) / static_cast<double>(hits + others) : 0; }
};

}  // namespace taipan
