#pragma once
// Speculation by prompt lookup: guessed tokens are read together with the one that was drawn, in one forward that reads
// the weights once. Each row has the bits of a step, and nothing of a wrong guess is left in the state: what is drawn
// is the same with and without.

#include <optional>
#include <span>
#include <vector>

#include "infer/draft_control.h"
#include "infer/prompt_lookup.h"
#include "infer/sequence_reader.h"

namespace taipan {

struct DraftOptions {
  int64_t match = 0;    // tokens of the text's end that must have stood there before; 0: no guesses
  int64_t most = 7;     // guesses at a time: with the token drawn, as many rows as products of few rows take
  bool always = false;  // also where it loses time
};
constexpr int64_t kMostMatch = 64;

struct DraftStats {
  int64_t drafted = 0, accepted = 0;  // tokens

  double share() const { return drafted > 0 ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0; }
};

// Reads one sequence token by token, ahead where it can.
class Lookahead {
 public:
  // The reader is used by nobody else between Step and Settle.
  Lookahead(SequenceReader& reader, const DraftOptions& options);

  // Reads the text's last token; logits [1, V] of the next. The state may lag behind until Settle.
  void Step(std::span<const int32_t> text, SequenceState& state, MatrixView logits);
  void Settle(SequenceState& state);
  const DraftStats& stats() const { return stats_; }

 private:
  void Close(SequenceState& state);

  SequenceReader& reader_;
  PromptLookup lookup_;
  DraftControl control_;
  DraftStats stats_;
  std::vector<int32_t> tokens_;     // that were read ahead: one that was drawn, then guesses
  size_t taken_ = 0, settled_ = 0;  // of them: drawn, and in the state
  double seconds_ = 0;              // they took
  Tensor logits_;                   // [1 + most, V] after each of them
};

}  // namespace taipan
