#pragma once
// Guesses of what comes next, taken from the text itself: what followed where its last tokens stood before.

#include <cstdint>
#include <span>
#include <vector>

namespace taipan {

class PromptLookup {
 public:
  explicit PromptLookup(int64_t match);  // how many tokens must be the same

  // What followed the last `match` tokens of the text at their latest place before, at most `most` tokens; empty: they
  // were not there. Between calls the text only grows at its end. Valid until the next call.
  std::span<const int32_t> Propose(std::span<const int32_t> text, int64_t most);

 private:
  size_t Slot(std::span<const int32_t> text, size_t end) const;
  void Index(std::span<const int32_t> text);

  const size_t match_;
  std::vector<size_t> last_;  // where a run of match_ tokens ended last, by its hash; 0: nowhere
  size_t indexed_ = 0;        // runs that end there or before are in last_
  std::vector<int32_t> proposal_;
};

}  // namespace taipan
