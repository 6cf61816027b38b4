#pragma once
// Reading and generating as `taipan bench` measures them.

#include <cstdint>
#include <span>
#include <vector>

#include "cli/bench/bench_run.h"
#include "model/model.h"
#include "model/selection.h"

namespace taipan {

// Forwards with a selection that may be forced, and logits: what a prompt and a token cost.
class BenchReader {
 public:
  explicit BenchReader(const BenchModel& bench);

  // The prompt in pieces, then the logits of its last token.
  void Prefill(std::span<const int32_t> tokens, int64_t piece, SequenceState& state);
  // One token for each sequence; the likeliest next ones replace `tokens`.
  void Step(std::vector<int32_t>& tokens, std::vector<SequenceState>& states);

  const SelectionCounts& counts() const { return counts_; }
  void ResetCounts() { counts_ = {}; }

 private:
  void Forward();
  void Logits();

  const LanguageModel& model_;
  const GateOptions gate_;
  SelectionCounts counts_;
  ForwardContext context_;
  Batch batch_;
  std::vector<int64_t> rows_;
  Tensor logits_;  // [rows, V]
};

}  // namespace taipan
