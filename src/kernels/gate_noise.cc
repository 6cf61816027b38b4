#include "kernels/gate_noise.h"

#include <cmath>

#include "base/parallel.h"

namespace taipan {
namespace {

constexpr int64_t kGrain = 256;
constexpr float kDecisive = 1e6f;  // more than any margin of a sane gate

}  // namespace

void GumbelPairs(const RandomKey& key, uint64_t first, int64_t n, float* pairs) {
  ParallelForRanges(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto gumbel = RandomGumbelPair(key, first + static_cast<uint64_t>(i));
      pairs[2 * i] = gumbel[0];
      pairs[2 * i + 1] = gumbel[1];
    }
  });
}

void PeriodicPairs(uint64_t first, int64_t n, double share, float* pairs) {
  for (int64_t i = 0; i < n; ++i) {
    const double at = static_cast<double>(first) + static_cast<double>(i);
    pairs[2 * i] = 0;
    pairs[2 * i + 1] = std::floor((at + 1) * share) > std::floor(at * share) ? kDecisive : -kDecisive;
  }
}

void DecisivePairs(const RandomKey& key, uint64_t first, int64_t n, double share, float* pairs) {
  ParallelForRanges(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pairs[2 * i] = 0;
      pairs[2 * i + 1] = RandomUniform(key, first + static_cast<uint64_t>(i)) < share ? kDecisive : -kDecisive;
    }
  });
}

}  // namespace taipan
