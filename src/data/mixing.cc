#include "data/mixing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"

namespace taipan {
namespace {

constexpr int64_t kBlock = 1024;     // rows
constexpr size_t kMostSources = 32;  // so that the heaviest has more rows of a block than rounding takes

}  // namespace

MixSchedule::MixSchedule(const std::vector<double>& weights, uint64_t seed) : seed_(seed) {
  CHECK(!weights.empty() && weights.size() <= kMostSources);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) shares_.push_back(weight / sum);
  heaviest_ = std::max_element(shares_.begin(), shares_.end()) - shares_.begin();
}

std::vector<int64_t> MixSchedule::Before(int64_t block) const {
  std::vector<int64_t> rows;
  for (const double share : shares_) {
    rows.push_back(static_cast<int64_t>(std::floor(share * static_cast<double>(block * kBlock))));
  }
  const auto at = static_cast<size_t>(heaviest_);
  rows[at] = 0;
  rows[at] = block * kBlock - std::accumulate(rows.begin(), rows.end(), int64_t{0});
  return rows;
}

MixPick MixSchedule::At(int64_t row) const {
  CHECK_GE(row, 0);
  const int64_t block = row / kBlock;
  const RandomKey key{.seed = seed_, .stream = kShuffleStream + 1, .step = static_cast<uint32_t>(block)};
  auto place = static_cast<int64_t>(RandomPermutation(key, static_cast<uint64_t>(row % kBlock), kBlock));
  const std::vector<int64_t> before = Before(block), behind = Before(block + 1);
  for (size_t source = 0;; ++source) {
    CHECK_LT(source, before.size());
    const int64_t rows = behind[source] - before[source];
    CHECK_GE(rows, 0);
    if (place < rows) return {static_cast<int64_t>(source), before[source] + place};
    place -= rows;
  }
}

std::vector<WeightedPath> ReadWeights(const std::vector<std::string>& data,
                                      const std::function<bool(const std::string&)>& exists) {
  std::vector<WeightedPath> paths;
  size_t weighted = 0;
  for (const std::string& given : data) {
    const size_t equals = given.rfind('=');
    if (exists(given) || equals == given.npos || equals == 0) {
      paths.push_back({given, 0});
      continue;
    }
    WeightedPath path{given.substr(0, equals), 0};
    const char* const end = given.data() + given.size();
    const auto parsed = std::from_chars(given.data() + equals + 1, end, path.weight);
    const bool fits = parsed.ec == std::errc() && parsed.ptr == end && path.weight > 0 && path.weight <= 1e9;
    if (!fits) {
      if (!exists(path.path)) {
        paths.push_back({given, 0});  // a name with = in it, which is missing
        continue;
      }
      throw UserError({"--data", "no weight behind =", "PATH=WEIGHT with a number above 0", given});
    }
    ++weighted;
    paths.push_back(std::move(path));
  }
  if (weighted > 0 && weighted < paths.size()) {
    throw UserError({"--data", "some paths have a weight and some have none", "PATH=WEIGHT for all of them",
                     fmt::format("{} of {}", weighted, paths.size())});
  }
  if (weighted > kMostSources) {
    throw UserError({"--data", "too many paths with weights", fmt::format("at most {}", kMostSources),
                     fmt::format("{}", weighted)});
  }
  return paths;
}

}  // namespace taipan
