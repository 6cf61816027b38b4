#include "base/power_law.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace taipan {

std::vector<int64_t> RandomByPowerLaw(const RandomKey& key, int64_t places, int64_t count, double power) {
  CHECK(count >= 0 && count <= places);
  std::vector<std::pair<double, int64_t>> waits;  // exponential, of rate = weight: who comes first was drawn first
  for (int64_t i = 0; i < places; ++i) {
    const double rate = std::pow(static_cast<double>(i + 1), power - 1);
    waits.push_back({-std::log(RandomUniform(key, static_cast<uint64_t>(i))) / rate, i});
  }
  std::partial_sort(waits.begin(), waits.begin() + count, waits.end());
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(waits[static_cast<size_t>(i)].second);
  return chosen;
}

}  // namespace taipan
