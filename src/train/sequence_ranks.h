#pragma once
// Sequence parallel: consecutive ranks hold consecutive parts of the same rows, for contexts that are too long for one.
// What a layer remembers of a row passes from rank to rank forward: SSM states, convolution windows, and as many keys
// and values as the attention window is long. Its gradient comes back. A rank that waits for the one before it works on
// the next micro-batch meanwhile.

#include <deque>
#include <functional>
#include <vector>

#include "dist/group.h"
#include "model/model.h"
#include "train/segmented.h"

namespace taipan {

class SequenceRanks {
 public:
  // count: consecutive ranks that hold a row; a divisor of the group's size.
  SequenceRanks(Group& group, const LanguageModel& model, int64_t count);

  const RowPart& part() const { return part_; }

  // Micro-batch after micro-batch: `run` has the states that enter it and gives those that leave it.
  void Forward(std::deque<SegmentedPass>& passes, const std::function<void(SegmentedPass&)>& run);
  // From the last one to the first: `run` has the gradients of what leaves and gives those of what entered.
  void Backward(std::deque<SegmentedPass>& passes, const std::function<void(SegmentedPass&, RowGradients&)>& run);

 private:
  void Exchange(int to, std::vector<std::byte>& out, int from, std::vector<std::byte>& in);

  Group& group_;
  const LanguageModel& model_;
  RowPart part_;
  int before_, behind_;  // ranks that have the parts beside this one's, -1: none
};

// A state of a sequence of which `position` tokens are read, as bytes.
int64_t StateBytes(const LanguageModel& model, int64_t position);
void PackState(const LanguageModel& model, const SequenceState& state, std::byte* to);
SequenceState UnpackState(const LanguageModel& model, int64_t position, const std::byte* from);

}  // namespace taipan
