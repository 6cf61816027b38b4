#include "cli/bench/bench_reader.h"

#include <numeric>

#include "infer/sequence_reader.h"
#include "kernels/arg_max.h"

namespace taipan {

BenchReader::BenchReader(const BenchModel& bench) : model_(bench.model), gate_(GateOf(bench)) {}

void BenchReader::Prefill(std::span<const int32_t> tokens, int64_t piece, SequenceState& state) {
  ForEachPiece(state.position, static_cast<int64_t>(tokens.size()), piece, [&](int64_t begin, int64_t count) {
    const auto part = tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
    batch_.tokens.assign(part.begin(), part.end());
    batch_.segments.assign(
        1, Segment{.begin = 0, .length = count, .row_begin = state.position, .state_in = &state, .state_out = &state});
    Forward();
  });
  rows_.assign(1, batch_.size() - 1);
  Logits();
}

void BenchReader::Step(std::vector<int32_t>& tokens, std::vector<SequenceState>& states) {
  batch_.tokens = tokens;
  batch_.segments.clear();
  for (size_t i = 0; i < states.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i);
    batch_.segments.push_back({.begin = row,
                               .length = 1,
                               .row = row,
                               .row_begin = states[i].position,
                               .state_in = &states[i],
                               .state_out = &states[i]});
  }
  Forward();
  rows_.resize(tokens.size());
  std::iota(rows_.begin(), rows_.end(), int64_t{0});
  Logits();
  const OpTimer timer("argmax");
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float* row = logits_.F32() + static_cast<int64_t>(i) * model_.config().vocab_size;
    tokens[i] = static_cast<int32_t>(FindLargest({row, static_cast<size_t>(model_.config().vocab_size)}).index);
  }
}

void BenchReader::Forward() {
  model_.Forward(batch_, gate_, /*keep=*/false, context_);
  counts_.Add(context_, batch_.size());
}

void BenchReader::Logits() {
  const int64_t n = static_cast<int64_t>(rows_.size());
  if (logits_.size() != n * model_.config().vocab_size) logits_ = Tensor({n, model_.config().vocab_size});
  model_.Logits(context_, rows_, logits_.Matrix());
}

}  // namespace taipan
