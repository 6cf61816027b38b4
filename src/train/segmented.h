#pragma once
// Forward and backward of a batch whose rows are too long to be in memory at once. They are cut into segments; the
// forward keeps the states between them, the backward takes the last segment first, runs it again and hands the
// gradient of the state that entered it to the one before.

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "model/model.h"

namespace taipan {

class SegmentedPass {
 public:
  // length: tokens of a row at a time, 0: all. The batch must outlive it.
  SegmentedPass(const Batch& batch, int64_t length);

  // read: called after the forward of each segment with its number of tokens, while the context holds what its gates
  // did.
  void Forward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
               const std::function<void(int64_t tokens)>& read);
  // After Forward with the same arguments; see LanguageModel::Backward.
  double Backward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
                  const StepTotals& totals, const BudgetSums& sums, const LossOptions& loss, ModelParams& grads);

 private:
  struct Piece {
    Batch batch;
    std::vector<bool> goes_on;                // a segment each: the next piece has its rest
    std::vector<bool> went_on;                // it is the rest of one
    std::map<int64_t, SequenceState> states;  // by row: that `went_on` segments begin with
  };
  const Batch& At(size_t i) const { return pieces_.empty() ? whole_ : pieces_[i].batch; }
  size_t count() const { return pieces_.empty() ? 1 : pieces_.size(); }
  void Cut(int64_t length, int64_t pieces);
  void AddPart(const Segment& s, int64_t from, int64_t to, size_t piece);

  const Batch& whole_;
  std::vector<Piece> pieces_;  // none: the whole
};

}  // namespace taipan
