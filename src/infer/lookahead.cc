#include "infer/lookahead.h"

#include <algorithm>

#include "base/clock.h"

namespace taipan {

Lookahead::Lookahead(SequenceReader& reader, const DraftOptions& options)
    : reader_(reader),
      lookup_(options.match),
      control_(options.most, options.always),
      logits_({options.most + 1, reader.model().config().vocab_size}) {}

void Lookahead::Step(std::span<const int32_t> text, SequenceState& state, MatrixView logits) {
  const int32_t token = text.back();
  const auto take = [&] {
    const float* row = logits_.F32() + static_cast<int64_t>(taken_) * logits.cols;
    std::copy(row, row + logits.cols, logits.F32());
    ++taken_;
  };
  if (taken_ < tokens_.size() && tokens_[taken_] == token) {
    ++stats_.accepted;
    return take();
  }
  Close(state);
  const std::span<const int32_t> guesses = lookup_.Propose(text, control_.Length());
  const double start = NowSeconds();
  if (guesses.empty()) {
    SequenceState* const pointer = &state;
    reader_.Step({&token, 1}, {&pointer, 1}, logits);
    return control_.Plain(NowSeconds() - start);
  }
  tokens_.assign(1, token);
  tokens_.insert(tokens_.end(), guesses.begin(), guesses.end());
  stats_.drafted += std::ssize(guesses);
  reader_.ReadAhead(tokens_, state, {logits_.F32(), std::ssize(tokens_), logits.cols});
  seconds_ = NowSeconds() - start;
  take();
}

void Lookahead::Settle(SequenceState& state) {
  if (settled_ == taken_) return;
  const double start = NowSeconds();
  reader_.Accept(static_cast<int64_t>(settled_), static_cast<int64_t>(taken_ - settled_), state);
  settled_ = taken_;
  seconds_ += NowSeconds() - start;
}

void Lookahead::Close(SequenceState& state) {
  if (tokens_.empty()) return;
  Settle(state);
  control_.Ahead(seconds_, std::ssize(tokens_) - 1, static_cast<int64_t>(taken_) - 1);
  tokens_.clear();
  taken_ = settled_ = 0;
}

}  // namespace taipan
