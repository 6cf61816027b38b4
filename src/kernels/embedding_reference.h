#pragma once
// Token embedding in plain loops, for tests.

#include <cstdint>
#include <span>
#include <vector>

namespace taipan::reference {

// table [V, d] row-major; returns [T, d].
template <class Real>
std::vector<Real> Embed(const std::vector<Real>& table, int64_t d, std::span<const int32_t> tokens) {
  std::vector<Real> out;
  for (int32_t id : tokens) {
    for (int64_t c = 0; c < d; ++c) out.push_back(table[static_cast<size_t>(id * d + c)]);
  }
  return out;
}

// dtable [V, d] += from dout [T, d].
template <class Real>
void EmbedBackward(const std::vector<Real>& dout, int64_t d, std::span<const int32_t> tokens,
                   std::vector<Real>& dtable) {
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (int64_t c = 0; c < d; ++c) {
      dtable[static_cast<size_t>(tokens[t] * d + c)] += dout[t * static_cast<size_t>(d) + static_cast<size_t>(c)];
    }
  }
}

}  // namespace taipan::reference
