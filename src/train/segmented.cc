#include "train/segmented.h"

#include <algorithm>

namespace taipan {

SegmentedPass::SegmentedPass(const Batch& batch, int64_t length) : whole_(batch) {
  int64_t longest = 0;
  for (const Segment& s : batch.segments) longest = std::max(longest, s.row_begin + s.length);
  if (length > 0 && longest > length) Cut(length, (longest + length - 1) / length);
}

void SegmentedPass::Cut(int64_t length, int64_t pieces) {
  pieces_.resize(static_cast<size_t>(pieces));
  for (int64_t i = 0; i < pieces; ++i) {
    for (const Segment& s : whole_.segments) {
      const int64_t from = std::max<int64_t>(i * length - s.row_begin, 0);
      const int64_t to = std::min((i + 1) * length - s.row_begin, s.length);
      if (from < to) AddPart(s, from, to, static_cast<size_t>(i));
    }
  }
}

// Tokens [from, to) of a segment. One at most of a row goes on in the next piece.
void SegmentedPass::AddPart(const Segment& s, int64_t from, int64_t to, size_t i) {
  Piece& piece = pieces_[i];
  Segment part = s;
  part.begin = piece.batch.size();
  part.length = to - from;
  part.row_begin = s.row_begin + from;
  if (from > 0) part.state_in = &piece.states[s.row];
  if (to < s.length) part.state_out = &pieces_[i + 1].states[s.row];
  piece.batch.segments.push_back(part);
  piece.went_on.push_back(from > 0);
  piece.goes_on.push_back(to < s.length);
  const auto append = [&](const auto& all, auto& some) {
    if (!all.empty()) some.insert(some.end(), all.begin() + s.begin + from, all.begin() + s.begin + to);
  };
  append(whole_.tokens, piece.batch.tokens);
  append(whole_.targets, piece.batch.targets);
  append(whole_.weights, piece.batch.weights);
}

void SegmentedPass::Forward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
                            const std::function<void(int64_t)>& read) {
  for (size_t i = 0; i < count(); ++i) {
    model.Forward(At(i), gate, /*keep=*/i + 1 == count(), context);
    read(At(i).size());
  }
  for (Piece& piece : pieces_) {
    for (Segment& s : piece.batch.segments) s.state_out = nullptr;
  }
}

double SegmentedPass::Backward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
                               const StepTotals& totals, const BudgetSums& sums, const LossOptions& loss,
                               ModelParams& grads) {
  if (pieces_.empty()) return model.Backward(context, totals, sums, loss, grads);
  double negative_log_p = 0;
  std::map<int64_t, SequenceStateGradient> later, earlier;  // by row
  for (size_t i = count(); i-- > 0;) {
    Piece& piece = pieces_[i];
    if (i + 1 < count()) model.Forward(piece.batch, gate, /*keep=*/true, context);
    std::vector<const SequenceStateGradient*> out;
    std::vector<SequenceStateGradient*> in;
    for (size_t j = 0; j < piece.batch.segments.size(); ++j) {
      const int64_t row = piece.batch.segments[j].row;
      out.push_back(piece.goes_on[j] ? &later.at(row) : nullptr);
      in.push_back(piece.went_on[j] ? &earlier[row] : nullptr);
    }
    negative_log_p += model.Backward(context, totals, sums, loss, grads, out, in);
    later = std::move(earlier);
    earlier.clear();
    piece.states.clear();
  }
  return negative_log_p;
}

}  // namespace taipan
