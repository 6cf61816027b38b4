#pragma once
// Forward and backward of a batch whose rows are too long to be in memory at once. They are cut into segments; the
// forward keeps the states between them, the backward takes the last segment first, runs it again and hands the
// gradient of the state that entered it to the one before. Of several ranks that hold consecutive parts of the same
// rows (sequence_ranks.h) each goes through its own.

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "model/model.h"

namespace taipan {

// The part of each row that is gone through: the index-th of count.
struct RowPart {
  int64_t index = 0, count = 1;
};

using RowGradients = std::map<int64_t, SequenceStateGradient>;  // by row

class SegmentedPass {
 public:
  // length: tokens of a row at a time, 0: all. The batch must outlive it.
  SegmentedPass(const Batch& batch, int64_t length, RowPart part = {});
  SegmentedPass(const SegmentedPass&) = delete;
  SegmentedPass& operator=(const SegmentedPass&) = delete;

  // Forwards; none where all rows end before the part begins.
  int64_t count() const { return cut_ ? static_cast<int64_t>(pieces_.size()) : 1; }

  // Rows that come from the part before, or go on in the next one, with the number of tokens read by then, and their
  // states: the entering ones are the caller's to fill before Forward, which fills the leaving ones.
  struct Crossing {
    int64_t row, position;
  };
  const std::vector<Crossing>& enters() const { return enters_; }
  const std::vector<Crossing>& leaves() const { return leaves_; }
  SequenceState& entering(int64_t row) { return pieces_.front().states.at(row); }
  std::map<int64_t, SequenceState>& leaving() { return leaving_; }

  // read: called after the forward of each segment with its number of tokens, while the context holds what its gates
  // did. keep: the context is not used before Backward, which then need not run the last segment again.
  void Forward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
               const std::function<void(int64_t tokens)>& read, bool keep = true);
  // After Forward with the same arguments; see LanguageModel::Backward. ends: the gradients of what leaves; on return
  // of what entered.
  double Backward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
                  const StepTotals& totals, const BudgetSums& sums, const LossOptions& loss, ModelParams& grads,
                  const GradientsDone& done = nullptr, RowGradients* ends = nullptr);

 private:
  struct Piece {
    Batch batch;
    std::vector<bool> goes_on;                // a segment each: the next piece has its rest
    std::vector<bool> went_on;                // it is the rest of one
    std::map<int64_t, SequenceState> states;  // by row: that `went_on` segments begin with
  };
  const Batch& At(size_t i) const { return cut_ ? pieces_[i].batch : whole_; }
  void Cut(int64_t begin, int64_t end, int64_t length);
  void AddPart(const Segment& s, int64_t from, int64_t to, size_t piece);

  const Batch& whole_;
  bool cut_ = false;
  std::vector<Piece> pieces_;
  std::vector<Crossing> enters_, leaves_;
  std::map<int64_t, SequenceState> leaving_;
  bool kept_ = false;
};

}  // namespace taipan
