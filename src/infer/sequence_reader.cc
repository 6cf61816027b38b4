#include "infer/sequence_reader.h"

#include <algorithm>
#include <numeric>

namespace taipan {

int64_t PieceLength(const ModelConfig& config) {
  constexpr int64_t kTarget = 512;
  const int64_t chunk = std::max<int64_t>(config.chunk_size, 1);
  return (kTarget + chunk - 1) / chunk * chunk;
}

void ForEachPiece(int64_t position, int64_t n, int64_t piece, const std::function<void(int64_t, int64_t)>& f) {
  CHECK_GT(piece, 0);
  for (int64_t begin = 0; begin < n;) {
    const int64_t to_grid = piece - (position + begin) % piece;
    const int64_t count = std::min(to_grid, n - begin);
    f(begin, count);
    begin += count;
  }
}

void CheckTokenIds(std::span<const int32_t> tokens, int64_t vocab, const std::string& where) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) {
      throw UserError({where, "token id outside the model's vocabulary", fmt::format("0 to {}", vocab - 1),
                       fmt::format("{} (at index {})", tokens[i], i)});
    }
  }
}

SequenceReader::SequenceReader(const LanguageModel& model, int64_t piece)
    : model_(model), piece_(piece > 0 ? piece : PieceLength(model.config())), gate_(InferenceGate(model.config())) {}

void SequenceReader::SetTargets(std::span<const int32_t> tokens, int64_t begin, int64_t count) {
  batch_.targets.assign(static_cast<size_t>(count), -1);
  for (int64_t i = 0; i < count; ++i) {
    const auto successor = static_cast<size_t>(begin + i + 1);
    if (successor < tokens.size()) {
      batch_.targets[static_cast<size_t>(i)] = tokens[successor];
    } else if (next_) {
      batch_.targets[static_cast<size_t>(i)] = *next_;
    }
  }
}

int64_t SequenceReader::Read(std::span<const int32_t> tokens, SequenceState& state,
                             const std::function<void(int64_t)>& progress, const std::function<bool()>& stop) {
  int64_t read = 0;
  bool stopped = false;
  ForEachPiece(state.position, static_cast<int64_t>(tokens.size()), piece_, [&](int64_t begin, int64_t count) {
    stopped = stopped || (stop && stop());
    if (stopped) return;
    const auto piece = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
    batch_.tokens.assign(piece.begin(), piece.end());
    batch_.segments.assign(1, Segment{.begin = 0, .length = count, .state_in = &state, .state_out = &state});
    const int64_t position = state.position;
    if (on_logprobs_) SetTargets(tokens, begin, count);
    model_.Forward(batch_, gate_, /*keep=*/false, context_);
    selection_.Add(context_, count);
    read = begin + count;
    const int64_t scored = !on_logprobs_ || batch_.targets.back() >= 0 ? count : count - 1;
    if (on_logprobs_ && scored > 0) {
      logprobs_.resize(static_cast<size_t>(count));
      model_.Score(context_, logprobs_.data());
      on_logprobs_(position + 1, std::span(logprobs_).first(static_cast<size_t>(scored)));
    }
    if (progress) progress(read);
  });
  batch_.targets.clear();
  next_.reset();
  return read;
}

void SequenceReader::LastLogits(MatrixView logits) {
  CHECK_GT(batch_.size(), 0);
  rows_.assign(1, batch_.size() - 1);
  model_.Logits(context_, rows_, logits);
}

void SequenceReader::Step(std::span<const int32_t> tokens, std::span<SequenceState* const> states, MatrixView logits) {
  CHECK_EQ(tokens.size(), states.size());
  const int64_t n = static_cast<int64_t>(tokens.size());
  batch_.tokens.assign(tokens.begin(), tokens.end());
  batch_.segments.clear();
  for (int64_t i = 0; i < n; ++i) {
    SequenceState* state = states[static_cast<size_t>(i)];
    batch_.segments.push_back({.begin = i, .length = 1, .row = i, .state_in = state, .state_out = state});
  }
  model_.Forward(batch_, gate_, /*keep=*/false, context_);
  selection_.Add(context_, n);
  rows_.resize(static_cast<size_t>(n));
  std::iota(rows_.begin(), rows_.end(), int64_t{0});
  model_.Logits(context_, rows_, logits);
}

void SequenceReader::ReadAhead(std::span<const int32_t> tokens, const SequenceState& state, MatrixView logits) {
  const int64_t n = static_cast<int64_t>(tokens.size());
  ahead_.rows_alone = ahead_.ahead = true;
  ahead_.tokens.assign(tokens.begin(), tokens.end());
  ahead_.segments.assign(1, Segment{.begin = 0, .length = n, .state_in = &state});
  model_.Forward(ahead_, gate_, /*keep=*/false, context_);
  rows_.resize(static_cast<size_t>(n));
  std::iota(rows_.begin(), rows_.end(), int64_t{0});
  model_.Logits(context_, rows_, logits);
}

void SequenceReader::Accept(int64_t begin, int64_t count, SequenceState& state) {
  model_.Advance(context_, begin, count, state);
  selection_.AddRows(context_, begin, count);
}

}  // namespace taipan
