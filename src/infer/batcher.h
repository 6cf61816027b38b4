#pragma once
// Many sequences through one model: they join, leave and are cancelled between any two steps.
//
// A step reads one token of every sequence that generates, in one forward, and pieces of prompts as far as its budget
// of tokens allows, so that a long prompt does not stall the others. Pieces lie on a fixed grid from the sequence's
// start: the budget may delay a piece, never cut it. A sequence gets bit for bit the logits that it has alone
// (Generator), whatever else runs.

#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "infer/generator.h"

namespace taipan {

struct BatchResult {
  StopReason reason = StopReason::kMaxTokens;  // kStopped: cancelled
  std::optional<int32_t> stop_token = {};      // the one met
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double logprob = 0;                             // with `score`: of all tokens drawn, the stop token too
  std::optional<SequenceSnapshot> snapshot = {};  // with keep_state: after all tokens, the stop token too
};

struct BatchRequest {
  std::vector<int32_t> prompt = {};
  GenerationOptions options = {};
  std::optional<SequenceSnapshot> from = {};  // what the prompt goes on from; it may be empty where this has logits
  bool keep_state = false;
  bool score = false;  // sums up the log-probabilities by the model's own distribution
  // Each token drawn, with the logits [V] it was drawn from; false ends the sequence.
  std::function<bool(int32_t token, std::span<const float> logits)> on_token = nullptr;
  std::function<void(BatchResult)> on_end = nullptr;
};

struct BatcherOptions {
  int64_t most_sequences = 64;  // at a time; others wait in the order they came
  int64_t step_tokens = 0;      // of prompts in a step, but one piece is read always; 0: one piece
  int64_t piece = 0;            // 0: PieceLength
};

class Batcher {
 public:
  // The model must outlive the batcher.
  explicit Batcher(const LanguageModel& model, const BatcherOptions& options = {});

  // Returns a number for Cancel. UserError for ids out of range, sampling options out of range and a prompt without a
  // token to start from. Both may be called from callbacks.
  int64_t Add(BatchRequest request);
  void Cancel(int64_t id);  // ended with kStopped in the next step; nothing where it has ended

  // False where nothing was left to do.
  bool Step();
  void Run() {
    while (Step()) {
    }
  }

  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  const SelectionCounts& selection() const { return selection_; }  // of all tokens read

 private:
  struct Sequence {
    explicit Sequence(BatchRequest r);

    int64_t id = 0, prompt_tokens = 0, generated = 0;
    double logprob = 0;
    BatchRequest request;
    Sampler sampler;
    bool keeps_tokens;            // the snapshot wants them, or the sampler
    SequenceSnapshot at = {};     // after what was read
    std::vector<int32_t> unread;  // the prompt, then the token drawn last
    size_t read = 0;              // of unread
    bool has_logits = false;      // to draw from
    bool cancelled = false;
    std::optional<BatchResult> end = {};
  };

  void Admit();
  int64_t NextPiece(const Sequence& s) const;
  void ReadTogether(std::span<Sequence* const> few);
  void ReadPieces(std::span<Sequence* const> sequences);
  void HasRead(Sequence& s, int64_t count, std::optional<int64_t> logits_row);
  void Draw(Sequence& s);
  void DrawAndEnd();

  const LanguageModel& model_;
  BatcherOptions options_;
  const GateOptions gate_;
  ForwardContext context_;
  Batch batch_;
  std::vector<int64_t> rows_;
  Tensor logits_;
  SelectionCounts selection_;
  int64_t next_id_ = 1;
  std::deque<Sequence> waiting_;
  std::list<Sequence> running_;
};

}  // namespace taipan
