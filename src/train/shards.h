#pragma once
// Who updates what where several ranks train one model: each rank keeps the optimizer's moments of its share of the
// elements and updates these alone (ZeRO-1). Gradients are summed where they are needed and new weights go to all: what
// travels is what a sum over all ranks would take, and the optimizer's work and memory are shared out.

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
  // Floats that travel at once: enough for the speed of any network, and little beside what training takes.
  static constexpr int64_t kBucket = int64_t{4} << 20;

  // whole: weights that one rank updates as a whole (Muon's matrices), shared out by size; of the others each rank has
  // an even piece.
  Shards(ModelParams& params, Group& group, bool (*whole)(const WeightSpec&));

  Group& group() const { return group_; }
  // The elements of weight i, in the order of ForEach, that a rank updates.
  std::pair<int64_t, int64_t> PieceOf(size_t i, int rank) const;
  std::pair<int64_t, int64_t> Own(size_t i) const { return PieceOf(i, group_.rank()); }

  // Of the groups that are trained. Afterwards the gradients of this rank's elements are the sums over all ranks; the
  // others are left open.
  void SumGradients(ModelParams& gradients, const WeightGroups& trained);
  // Of each weight's gradient after that, over all ranks.
  std::vector<double> SquaredNorms(ModelParams& gradients);
  // Every rank gets the elements that the others have updated. bf16 copies are the caller's to refresh.
  void GatherWeights(ModelParams& params, const WeightGroups& trained);

 private:
  // A part of a weight that travels at once: the k-th of n parts of every rank's piece.
  struct Part {
    size_t weight = 0;
    int64_t k = 0, n = 1;
  };
  using Bucket = std::vector<Part>;
  std::vector<Bucket> BucketsOf(ModelParams& params, const WeightGroups& trained) const;
  std::pair<int64_t, int64_t> Range(const Part& part, int rank) const;
  std::vector<int64_t> Bounds(const Bucket& bucket) const;
  // Between the elements of the given ranks' parts and the buffer, where rank after rank has its own.
  enum class Way { kPack, kUnpack };
  void Copy(Way way, const Bucket& bucket, const std::vector<int64_t>& bounds, const std::vector<float*>& weights,
            bool (*wanted)(int rank, int own));

  Group& group_;
  std::vector<std::vector<int64_t>> bounds_;  // [weight][rank]
  std::vector<float> buffer_;
};

}  // namespace taipan
