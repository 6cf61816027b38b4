#pragma once
// Text generation on one sequence: read a prompt in pieces, then draw and read token by token.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "infer/logprobs.h"
#include "infer/lookahead.h"
#include "infer/sampler.h"
#include "infer/sequence_reader.h"
#include "infer/snapshot.h"

namespace taipan {

struct GenerationOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 256;
  std::vector<int32_t> stop_tokens = {};  // usually those that end an answer; the one met is read but not reported
  int64_t vocab_limit = 0;                // draw ids below this only: a padded vocabulary has rows without text; 0: all
  TokenMask mask = nullptr;               // a grammar
  // Told of each token before on_token: by the model's own distribution, before anything above acts. With the `top`
  // most likely ones.
  std::function<void(const TokenLogprobs&)> on_logprobs = nullptr;
  int64_t top_logprobs = 0;
  DraftOptions draft = {};  // changes no token; guesses come from the tokens that were kept
};

enum class StopReason { kMaxTokens, kStopToken, kStopText, kCallback, kStopped };  // kStopText: set by callers
const char* NameOf(StopReason reason);  // "max_tokens", "stop_token", "stop_text", "callback", "stopped"

struct GenerationStats {
  int64_t prompt_tokens = 0, generated_tokens = 0;
  double prompt_seconds = 0, generation_seconds = 0;
  std::vector<double> selected_share;  // [SAL], of all tokens read
  StopReason stop_reason = StopReason::kMaxTokens;
  std::optional<int32_t> stop_token;  // the one met
  DraftStats draft = {};

  double prompt_tokens_per_second() const { return prompt_seconds > 0 ? prompt_tokens / prompt_seconds : 0; }
  double generated_tokens_per_second() const {
    return generation_seconds > 0 ? generated_tokens / generation_seconds : 0;
  }
};

class Generator {
 public:
  // The model must outlive the generator. piece: tokens a piece of the prompt, 0: PieceLength.
  explicit Generator(const LanguageModel& model, int64_t piece = 0);

  // Keeps the tokens that are read from now on, 4 bytes each; a snapshot has them if it was called before the first.
  void KeepTokens() { keep_tokens_ = true; }
  // Asked before each piece of a prompt and each draw: whether to end there.
  void StopWhen(std::function<bool()> stop) { stop_ = std::move(stop); }

  // Reads tokens; a long prompt may come in several calls. progress is told the tokens of this call read so far.
  // Returns how many were read: all, unless StopWhen's said otherwise.
  int64_t Read(std::span<const int32_t> tokens, const std::function<void(int64_t)>& progress = nullptr);

  // Of tokens read from a prompt: log p of each but the sequence's first, in the order of the text.
  void OnLogprobs(LogprobsSink sink);
  // The token that will follow those of the next Read: log p of all of a text then come from one product a piece.
  void ExpectNext(int32_t next) { reader_.ExpectNext(next), next_known_ = true; }

  // Draws tokens and reads them, so that the state has seen all that was generated. on_token gets each id before it is
  // read and may return false to end. At least one token must have been read before. Penalties know of the tokens that
  // were kept (KeepTokens).
  GenerationStats Generate(const GenerationOptions& options, const std::function<bool(int32_t)>& on_token);

  const LanguageModel& model() const { return reader_.model(); }
  const SequenceState& state() const;
  std::span<const int32_t> tokens() const { return tokens_; }  // those kept
  uint64_t token_digest() const { return token_digest_; }      // of all that were read
  int64_t piece() const { return reader_.piece(); }
  std::vector<double> selected_share() const { return reader_.selection().Shares(); }  // [SAL], of all tokens read
  bool has_logits() const { return has_logits_; }
  std::span<const float> logits() const;  // [V] after the last token read

  GenerationStats PromptStats() const;  // of what was read, nothing being generated
  const SelectionCounts& selection() const { return reader_.selection(); }

  // A fork, to be kept or continued by another generator.
  SequenceSnapshot Snapshot() const;
  // Goes on from there; a prompt is counted anew. Without logits a token must be read before the next draw.
  void Continue(SequenceSnapshot snapshot);

 private:
  void Remember(std::span<const int32_t> read);
  void Settle() const;  // state_ has all tokens: it lags behind while they are read ahead
  bool Stopped() const { return stop_ && stop_(); }

  SequenceReader reader_;
  std::unique_ptr<Lookahead> lookahead_;  // null: token by token
  mutable SequenceState state_;
  Tensor logits_;  // [1, V]
  bool has_logits_ = false;
  bool keep_tokens_ = false;
  std::vector<int32_t> tokens_;
  uint64_t token_digest_ = kNoTokensDigest;
  std::function<bool()> stop_;
  LogprobsSink on_logprobs_;
  bool next_known_ = false;
  int64_t scored_ = 0;  // tokens before this position need no log p any more
  int64_t prompt_tokens_ = 0;
  double prompt_seconds_ = 0;
};

}  // namespace taipan
