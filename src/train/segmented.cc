#include "train/segmented.h"

#include <algorithm>

#include "dist/group.h"

namespace taipan {

SegmentedPass::SegmentedPass(const Batch& batch, int64_t length, RowPart part) : whole_(batch) {
  int64_t longest = 0;
  for (const Segment& s : batch.segments) longest = std::max(longest, s.row_begin + s.length);
  cut_ = part.count > 1 || (length > 0 && longest > length);
  if (!cut_) return;
  const std::vector<int64_t> bounds = EvenBounds(longest, static_cast<int>(part.count));
  const auto index = static_cast<size_t>(part.index);
  Cut(bounds[index], bounds[index + 1], length > 0 ? length : longest);
}

void SegmentedPass::Cut(int64_t begin, int64_t end, int64_t length) {
  pieces_.resize(static_cast<size_t>((end - begin + length - 1) / length));
  for (size_t i = 0; i < pieces_.size(); ++i, begin += length) {
    for (const Segment& s : whole_.segments) {
      const int64_t from = std::max<int64_t>(begin - s.row_begin, 0);
      const int64_t to = std::min(std::min(begin + length, end) - s.row_begin, s.length);
      if (from < to) AddPart(s, from, to, i);
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
  const bool last = i + 1 == pieces_.size();
  if (from > 0) part.state_in = &piece.states[s.row];
  if (to < s.length) part.state_out = last ? &leaving_[s.row] : &pieces_[i + 1].states[s.row];
  if (from > 0 && i == 0) enters_.push_back({s.row, from});
  if (to < s.length && last) leaves_.push_back({s.row, to});
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
                            const std::function<void(int64_t)>& read, bool keep) {
  kept_ = keep;
  const auto n = static_cast<size_t>(count());
  for (size_t i = 0; i < n; ++i) {
    model.Forward(At(i), gate, keep && i + 1 == n, context);
    read(At(i).size());
  }
  for (Piece& piece : pieces_) {
    for (Segment& s : piece.batch.segments) s.state_out = nullptr;
  }
}

double SegmentedPass::Backward(const LanguageModel& model, const GateOptions& gate, ForwardContext& context,
                               const StepTotals& totals, const BudgetSums& sums, const LossOptions& loss,
                               ModelParams& grads, const GradientsDone& done, RowGradients* ends) {
  if (!cut_) return model.Backward(context, totals, sums, loss, grads, {}, {}, done);
  double negative_log_p = 0;
  RowGradients later, earlier;
  if (ends) later = std::move(*ends);
  const auto n = static_cast<size_t>(count());
  for (size_t i = n; i-- > 0;) {
    Piece& piece = pieces_[i];
    if (i + 1 < n || !kept_) model.Forward(piece.batch, gate, /*keep=*/true, context);
    std::vector<const SequenceStateGradient*> out;
    std::vector<SequenceStateGradient*> in;
    for (size_t j = 0; j < piece.batch.segments.size(); ++j) {
      const int64_t row = piece.batch.segments[j].row;
      out.push_back(piece.goes_on[j] ? &later.at(row) : nullptr);
      in.push_back(piece.went_on[j] ? &earlier[row] : nullptr);
    }
    negative_log_p += model.Backward(context, totals, sums, loss, grads, out, in, i == 0 ? done : nullptr);
    later = std::move(earlier);
    earlier.clear();
    piece.states.clear();
  }
  if (ends) *ends = std::move(later);
  return negative_log_p;
}

}  // namespace taipan
