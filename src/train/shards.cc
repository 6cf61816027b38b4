#include "train/shards.h"

#include <algorithm>

#include "base/parallel.h"
#include "train/optimizer.h"

namespace taipan {
namespace {

// Pieces begin where vectors and cache lines do.
constexpr int64_t kUnit = 64;

int64_t SizeOf(const WeightSpec& spec) { return static_cast<int64_t>(spec.count()); }

}  // namespace

std::vector<float*> Elements(ModelParams& params) {
  std::vector<float*> all;
  params.ForEach([&](Weight& w) { all.push_back(w.F32()); });
  return all;
}

Shards::Shards(ModelParams& params, Group& group, bool (*whole)(const WeightSpec&)) : group_(group) {
  std::vector<int64_t> load(static_cast<size_t>(group.size()), 0);
  params.ForEach([&](Weight& w) {
    const int64_t n = sizes_.emplace_back(SizeOf(w.spec));  // nothing may be bound yet
    if (!whole(w.spec)) {
      bounds_.push_back(EvenBounds(n, group.size(), kUnit));
      return;
    }
    const auto least = std::min_element(load.begin(), load.end());
    *least += n;
    std::vector<int64_t> bounds(load.size() + 1, n);
    std::fill_n(bounds.begin(), least - load.begin() + 1, 0);
    bounds_.push_back(std::move(bounds));
  });
}

std::pair<int64_t, int64_t> Shards::PieceOf(size_t i, int rank) const {
  return {bounds_[i][static_cast<size_t>(rank)], bounds_[i][static_cast<size_t>(rank) + 1]};
}

std::vector<Shards::Bucket> Shards::BucketsOf(std::span<const size_t> weights) const {
  std::vector<Bucket> buckets;
  const int64_t most = BucketSize(group_.size());
  int64_t room = 0;
  for (const size_t weight : weights) {
    const int64_t parts = (sizes_[weight] + most - 1) / most;
    for (int64_t k = 0; k < parts; ++k) {
      const int64_t size = sizes_[weight] / parts;
      if (buckets.empty() || size > room) {
        buckets.emplace_back();
        room = most;
      }
      room -= size;
      buckets.back().parts.push_back({weight, k, parts});
    }
  }
  for (Bucket& bucket : buckets) {
    bucket.bounds = {0};
    for (int rank = 0; rank < group_.size(); ++rank) {
      bucket.bounds.push_back(bucket.bounds.back());
      for (const Part& part : bucket.parts) {
        const auto [begin, end] = Range(part, rank);
        bucket.bounds.back() += end - begin;
      }
    }
  }
  return buckets;
}

std::pair<int64_t, int64_t> Shards::Range(const Part& part, int rank) const {
  const auto [begin, end] = PieceOf(part.weight, rank);
  const int64_t n = end - begin;
  return {begin + n * part.k / part.n, begin + n * (part.k + 1) / part.n};
}

void Shards::GatherWeights(ModelParams& params, const WeightGroups& trained) {
  if (group_.alone()) return;
  const std::vector<float*> elements = Elements(params);
  std::vector<size_t> weights;
  size_t i = 0;
  params.ForEach([&](Weight& w) {
    if (trained.Has(w.spec.group)) weights.push_back(i);
    ++i;
  });
  for (const Bucket& bucket : BucketsOf(weights)) {
    buffer_.resize(static_cast<size_t>(bucket.size()));
    const auto copy = [&](int rank, bool pack) {
      float* next = buffer_.data() + bucket.bounds[static_cast<size_t>(rank)];
      for (const Part& part : bucket.parts) {
        const auto [begin, end] = Range(part, rank);
        float* const own = elements[part.weight] + begin;
        pack ? std::copy_n(own, end - begin, next) : std::copy_n(next, end - begin, own);
        next += end - begin;
      }
    };
    copy(group_.rank(), /*pack=*/true);
    std::vector<int64_t> bytes = bucket.bounds;
    for (int64_t& bound : bytes) bound *= static_cast<int64_t>(sizeof(float));
    group_.GatherPieces(std::as_writable_bytes(std::span<float>(buffer_)), bytes);
    ParallelFor(group_.size(), [&](int64_t rank) {
      if (rank != group_.rank()) copy(static_cast<int>(rank), /*pack=*/false);
    });
  }
}

}  // namespace taipan
