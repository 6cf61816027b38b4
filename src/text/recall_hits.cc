#include "text/recall_hits.h"

#include <unordered_map>

namespace taipan {

std::vector<bool> RecallHits(std::span<const int32_t> tokens, int64_t reach) {
  std::vector<bool> hits;
  std::unordered_map<uint64_t, int64_t> last;  // bigram -> index of its second token
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    const uint64_t bigram = static_cast<uint64_t>(static_cast<uint32_t>(tokens[i])) << 32 |
                            static_cast<uint64_t>(static_cast<uint32_t>(tokens[i + 1]));
    const auto now = static_cast<int64_t>(i) + 1;
    const auto [at, fresh] = last.try_emplace(bigram, now);
    hits.push_back(!fresh && now - at->second > reach);
    at->second = now;
  }
  return hits;
}

}  // namespace taipan
