#include "infer/prompt_lookup.h"

#include <algorithm>

#include "base/error.h"

namespace taipan {

PromptLookup::PromptLookup(int64_t match) : match_(static_cast<size_t>(match)) { CHECK_GE(match, 1); }

size_t PromptLookup::Slot(std::span<const int32_t> text, size_t end) const {
  uint64_t hash = 0;
  for (size_t i = end - match_; i < end; ++i) hash = (hash + static_cast<uint32_t>(text[i]) + 1) * 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(hash >> 32) & (last_.size() - 1);
}

// All runs but the last one, which is what is looked for.
void PromptLookup::Index(std::span<const int32_t> text) {
  constexpr size_t kFirst = 1024;
  if (text.size() * 2 > last_.size()) {
    size_t size = kFirst;
    while (size < text.size() * 4) size *= 2;
    last_.assign(size, 0);
    indexed_ = 0;
  }
  for (size_t end = std::max(indexed_ + 1, match_); end < text.size(); ++end) last_[Slot(text, end)] = end;
  indexed_ = text.empty() ? 0 : text.size() - 1;
}

std::span<const int32_t> PromptLookup::Propose(std::span<const int32_t> text, int64_t most) {
  Index(text);
  proposal_.clear();
  const size_t size = text.size();
  if (size < match_ || most <= 0) return proposal_;
  const size_t end = last_[Slot(text, size)];
  if (end == 0 || !std::equal(text.end() - static_cast<int64_t>(match_), text.end(),
                              text.begin() + static_cast<int64_t>(end - match_))) {
    return proposal_;
  }
  for (size_t i = 0; i < static_cast<size_t>(most); ++i) {  // a run that reaches the end repeats itself
    proposal_.push_back(end + i < size ? text[end + i] : proposal_[end + i - size]);
  }
  return proposal_;
}

}  // namespace taipan
