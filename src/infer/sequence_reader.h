#pragma once
// Feeds tokens to a model with a carried state: long inputs in pieces cut on a fixed grid from the sequence's start, so
// that memory stays constant and the cut never changes a bit, and single tokens of several sequences as one batch.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "model/selection.h"

namespace taipan {

// Tokens a piece: a multiple of the model's chunk, near 512 (large enough for full matrix products, small enough that
// the activations of a piece stay far below the weights).
int64_t PieceLength(const ModelConfig& config);

// Calls f(begin, count) for the pieces of n tokens that start at `position`, cut at the multiples of `piece`.
void ForEachPiece(int64_t position, int64_t n, int64_t piece, const std::function<void(int64_t, int64_t)>& f);

// UserError naming `where` and the first id outside [0, vocab).
void CheckTokenIds(std::span<const int32_t> tokens, int64_t vocab, const std::string& where);

// Natural log p(token first + i | those before it), for consecutive tokens; `first` counts from the sequence's start.
using LogprobsSink = std::function<void(int64_t first, std::span<const float> logprobs)>;

class SequenceReader {
 public:
  // The model must outlive the reader. piece 0: PieceLength.
  explicit SequenceReader(const LanguageModel& model, int64_t piece = 0);

  // Reads the tokens into the state and returns how many: fewer than all only where `stop`, asked before each piece,
  // says so. progress is told the tokens read so far after each piece. Both may be null.
  int64_t Read(std::span<const int32_t> tokens, SequenceState& state,
               const std::function<void(int64_t)>& progress = nullptr, const std::function<bool()>& stop = nullptr);
  // Of tokens read from now on, but for the first of each Read: log p by what came before it; null: none. It costs a
  // product with the head for every token.
  void OnLogprobs(LogprobsSink sink) { on_logprobs_ = std::move(sink); }
  // `next` is the token behind those of the next Read, which is then scored with them.
  void ExpectNext(int32_t next) { next_ = next; }
  // Logits [V] after the last token of the last Read.
  void LastLogits(MatrixView logits);

  // One token for each of several sequences in one forward; logits [states.size(), V]. Row i is what reading token i
  // into states[i] alone would give, bit for bit.
  void Step(std::span<const int32_t> tokens, std::span<SequenceState* const> states, MatrixView logits);

  // Logits [tokens.size(), V] after each token, bit for bit as in so many steps; the state stays as it is.
  void ReadAhead(std::span<const int32_t> tokens, const SequenceState& state, MatrixView logits);
  // Reads the tokens [begin, begin + count) of the last ReadAhead into the state that those before them led to.
  void Accept(int64_t begin, int64_t count, SequenceState& state);

  const LanguageModel& model() const { return model_; }
  int64_t piece() const { return piece_; }
  const SelectionCounts& selection() const { return selection_; }

 private:
  // Targets of the batch: each token's successor of the text.
  void SetTargets(std::span<const int32_t> tokens, int64_t begin, int64_t count);

  const LanguageModel& model_;
  const int64_t piece_;
  const GateOptions gate_;
  ForwardContext context_;
  Batch batch_, ahead_;  // reused: a steady loop allocates nothing
  std::vector<int64_t> rows_;
  std::vector<float> logprobs_;
  LogprobsSink on_logprobs_;
  std::optional<int32_t> next_;
  SelectionCounts selection_;
};

}  // namespace taipan
