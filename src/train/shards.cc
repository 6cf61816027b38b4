#include "train/shards.h"

#include <algorithm>

#include "base/parallel.h"
#include "train/optimizer.h"

namespace taipan {
namespace {

// Pieces begin where vectors and cache lines do.
constexpr int64_t kUnit = 64;

int64_t SizeOf(const WeightSpec& spec) { return static_cast<int64_t>(spec.count()); }

std::vector<float*> Elements(ModelParams& params) {
  std::vector<float*> all;
  params.ForEach([&](Weight& w) { all.push_back(w.F32()); });
  return all;
}

}  // namespace

Shards::Shards(ModelParams& params, Group& group, bool (*whole)(const WeightSpec&)) : group_(group) {
  std::vector<int64_t> load(static_cast<size_t>(group.size()), 0);
  params.ForEach([&](Weight& w) {
    const int64_t n = SizeOf(w.spec);  // nothing may be bound yet
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

std::vector<Shards::Bucket> Shards::BucketsOf(ModelParams& params, const WeightGroups& trained) const {
  std::vector<Bucket> buckets;
  int64_t room = 0;
  size_t i = 0;
  params.ForEach([&](Weight& w) {
    const size_t weight = i++;
    if (!trained.Has(w.spec.group)) return;
    const int64_t parts = (w.f32.size() + kBucket - 1) / kBucket;
    for (int64_t k = 0; k < parts; ++k) {
      const int64_t size = w.f32.size() / parts;
      if (buckets.empty() || size > room) {
        buckets.emplace_back();
        room = kBucket;
      }
      room -= size;
      buckets.back().push_back({weight, k, parts});
    }
  });
  return buckets;
}

std::pair<int64_t, int64_t> Shards::Range(const Part& part, int rank) const {
  const auto [begin, end] = PieceOf(part.weight, rank);
  const int64_t n = end - begin;
  return {begin + n * part.k / part.n, begin + n * (part.k + 1) / part.n};
}

std::vector<int64_t> Shards::Bounds(const Bucket& bucket) const {
  std::vector<int64_t> bounds = {0};
  for (int rank = 0; rank < group_.size(); ++rank) {
    bounds.push_back(bounds.back());
    for (const Part& part : bucket) {
      const auto [begin, end] = Range(part, rank);
      bounds.back() += end - begin;
    }
  }
  return bounds;
}

void Shards::Copy(Way way, const Bucket& bucket, const std::vector<int64_t>& bounds, const std::vector<float*>& weights,
                  bool (*wanted)(int rank, int own)) {
  ParallelFor(group_.size(), [&](int64_t rank) {
    if (!wanted(static_cast<int>(rank), group_.rank())) return;
    float* next = buffer_.data() + bounds[static_cast<size_t>(rank)];
    for (const Part& part : bucket) {
      const auto [begin, end] = Range(part, static_cast<int>(rank));
      float* const own = weights[part.weight] + begin;
      way == Way::kPack ? std::copy_n(own, end - begin, next) : std::copy_n(next, end - begin, own);
      next += end - begin;
    }
  });
}

void Shards::SumGradients(ModelParams& gradients, const WeightGroups& trained) {
  if (group_.alone()) return;
  const std::vector<float*> elements = Elements(gradients);
  for (const Bucket& bucket : BucketsOf(gradients, trained)) {
    const std::vector<int64_t> bounds = Bounds(bucket);
    buffer_.resize(static_cast<size_t>(bounds.back()));
    Copy(Way::kPack, bucket, bounds, elements, [](int, int) { return true; });
    group_.SumPieces(buffer_, bounds);
    Copy(Way::kUnpack, bucket, bounds, elements, [](int rank, int own) { return rank == own; });
  }
}

std::vector<double> Shards::SquaredNorms(ModelParams& gradients) {
  std::vector<double> squares;
  gradients.ForEach([&](Weight& g) {
    const auto [begin, end] = Own(squares.size());
    squares.push_back(SquaredNorm(g.F32() + begin, end - begin));
  });
  group_.Sum(std::span<double>(squares));
  return squares;
}

void Shards::GatherWeights(ModelParams& params, const WeightGroups& trained) {
  if (group_.alone()) return;
  const std::vector<float*> elements = Elements(params);
  for (const Bucket& bucket : BucketsOf(params, trained)) {
    std::vector<int64_t> bounds = Bounds(bucket);
    buffer_.resize(static_cast<size_t>(bounds.back()));
    Copy(Way::kPack, bucket, bounds, elements, [](int rank, int own) { return rank == own; });
    std::vector<int64_t> bytes = bounds;
    for (int64_t& bound : bytes) bound *= static_cast<int64_t>(sizeof(float));
    group_.GatherPieces(std::as_writable_bytes(std::span<float>(buffer_)), bytes);
    Copy(Way::kUnpack, bucket, bounds, elements, [](int rank, int own) { return rank != own; });
  }
}

}  // namespace taipan
