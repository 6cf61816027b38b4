#pragma once
// log p of every token of a sequence, in pieces with a carried state: any length at constant memory.

#include <functional>
#include <span>
#include <vector>

#include "infer/sequence_reader.h"

namespace taipan {

struct ScoreOptions {
  int64_t piece = 0;  // tokens a forward, 0: PieceLength
  int64_t from = 1;   // the first token to score; those before it are only read
  // Natural log p(token first + i | the tokens before it), for consecutive i; first = `from` at the first call.
  std::function<void(int64_t first, std::span<const float> logprobs)> on_logprobs{};
  // Logits [n, V] after the tokens first, first + 1, ...; every token comes once, in order.
  std::function<void(int64_t first, ConstMatrixView logits)> on_logits{};
  int64_t max_logits = int64_t{16} << 20;  // numbers in one call of on_logits, at least a row: 64 MiB
  std::function<void(int64_t tokens_done)> on_progress{};
};

struct ScoreResult {
  int64_t tokens = 0;      // read
  int64_t scored = 0;      // of a whole sequence tokens - 1: the first has nothing before it
  double sum_logprob = 0;  // nats
  double mean_logprob() const { return sum_logprob / static_cast<double>(scored); }
  std::vector<double> selected_share;  // [SAL]
  double seconds = 0;
};

// Of consecutive log-probabilities. UserError naming the position of one that is no finite number.
double SumOfFinite(std::span<const float> logprobs, int64_t first_token);

// UserError for an empty sequence, ids outside the vocabulary, and a model that gives log p that is no finite number.
ScoreResult ScoreTokens(const LanguageModel& model, std::span<const int32_t> tokens, const ScoreOptions& options = {});

// Windows of `context` tokens that start `stride` tokens apart, each read from a fresh state. A token is scored in the
// first window that has it, so with context - stride others before it at least; the first token of a window has none
// before it and is scored only where an earlier window reaches it (stride < context). This is Hugging Face's
// "Perplexity of fixed-length models", whose script weighs a window's mean by one token less than it averaged.
struct WindowOptions {
  int64_t context = 1024, stride = 512;  // 0 < stride <= context
  // As in ScoreOptions; the window starts at token `begin`.
  std::function<void(int64_t begin, int64_t first, std::span<const float> logprobs)> on_logprobs{};
  std::function<void(int64_t tokens_done)> on_progress{};
};
ScoreResult ScoreWindows(const LanguageModel& model, std::span<const int32_t> tokens, const WindowOptions& options);

}  // namespace taipan
