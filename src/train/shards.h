#pragma once
// Who updates what where several ranks train one model: each rank keeps the optimizer's moments of its share of the
// elements and updates these alone (ZeRO-1). Gradients are summed where they are needed (step_gradients.h) and new
// weights go to all: what travels is what a sum over all ranks would take, and the optimizer's work and memory are
// shared out.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dist/group.h"
#include "model/parameters.h"

namespace taipan {

class WeightGroups;

class Shards {
 public:
  // Floats that travel at once: messages of 64 KiB at least, for the speed of any network, and little beside what
  // training takes.
  static int64_t BucketSize(int64_t ranks) { return std::max(int64_t{1} << 20, ranks << 14); }

  // whole: weights that one rank updates as a whole (Muon's matrices), shared out by size; of the others each rank has
  // an even piece.
  Shards(ModelParams& params, Group& group, bool (*whole)(const WeightSpec&));

  Group& group() const { return group_; }
  // The elements of weight i, in the order of ForEach, that a rank updates.
  std::pair<int64_t, int64_t> PieceOf(size_t i, int rank) const;
  std::pair<int64_t, int64_t> Own(size_t i) const { return PieceOf(i, group_.rank()); }

  // A part of a weight that travels at once: the k-th of n parts of every rank's piece.
  struct Part {
    size_t weight = 0;
    int64_t k = 0, n = 1;
  };
  // Parts that travel together. Packed, rank after rank has its own; bounds [ranks + 1], in floats.
  struct Bucket {
    std::vector<Part> parts;
    std::vector<int64_t> bounds;
    int64_t size() const { return bounds.back(); }
  };
  std::vector<Bucket> BucketsOf(std::span<const size_t> weights) const;
  // The elements of a part that a rank updates.
  std::pair<int64_t, int64_t> Range(const Part& part, int rank) const;

  // Every rank gets the elements that the others have updated. bf16 copies are the caller's to refresh.
  void GatherWeights(ModelParams& params, const WeightGroups& trained);

 private:
  Group& group_;
  std::vector<int64_t> sizes_;                // of weights
  std::vector<std::vector<int64_t>> bounds_;  // [weight][rank]
  std::vector<float> buffer_;
};

// Where each weight's elements are.
std::vector<float*> Elements(ModelParams& params);

}  // namespace taipan
