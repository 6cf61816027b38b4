#pragma once
// Which tokens a sequence has read, as one number that grows with every token.

#include <cstdint>
#include <span>

#include "base/content_hash.h"

namespace taipan {

constexpr uint64_t kNoTokensDigest = 0;

// Of the tokens after those that `before` stands for.
inline uint64_t DigestTokens(std::span<const int32_t> tokens, uint64_t before = kNoTokensDigest) {
  for (const int32_t token : tokens) before = MixHash(before, static_cast<uint32_t>(token));
  return before;
}

}  // namespace taipan
