#include "infer/scoring.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace taipan {
namespace {

void SendLogits(const LanguageModel& model, ForwardContext& context, int64_t first, int64_t count,
                const ScoreOptions& options) {
  const int64_t vocab = model.config().vocab_size;
  const int64_t step = std::clamp<int64_t>(options.max_logits / vocab, 1, count);
  Tensor logits({step, vocab});
  std::vector<int64_t> rows;
  for (int64_t begin = 0; begin < count; begin += step) {
    rows.resize(static_cast<size_t>(std::min(step, count - begin)));
    std::iota(rows.begin(), rows.end(), begin);
    const MatrixView part = logits.Matrix().Rows(0, static_cast<int64_t>(rows.size()));
    model.Logits(context, rows, part);
    options.on_logits(first + begin, part);
  }
}

}  // namespace

double SumOfFinite(std::span<const float> logprobs, int64_t first_token) {
  double sum = 0;
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (!std::isfinite(logprobs[i])) {
      throw UserError({fmt::format("token position {}", first_token + static_cast<int64_t>(i)),
                       "the model's log-probability is not a finite number", "a finite value",
                       fmt::format("{}", logprobs[i]), "its weights are damaged or its training diverged"});
    }
    sum += logprobs[i];
  }
  return sum;
}

ScoreResult ScoreTokens(const LanguageModel& model, std::span<const int32_t> tokens, const ScoreOptions& options) {
  if (tokens.empty()) throw UserError({"tokens", "the sequence is empty", "at least one token", "none"});
  CheckTokenIds(tokens, model.config().vocab_size, "tokens");
  CHECK_GE(options.from, 1);
  const auto start = std::chrono::steady_clock::now();
  const int64_t n = static_cast<int64_t>(tokens.size());
  const int64_t piece = options.piece > 0 ? options.piece : PieceLength(model.config());
  const GateOptions gate = InferenceGate(model.config());
  SequenceState state = model.NewState();
  ForwardContext context;
  SelectionCounts selection;
  Batch batch;
  std::vector<float> logprobs;
  ScoreResult result;
  ForEachPiece(0, n, piece, [&](int64_t begin, int64_t count) {
    const auto from = tokens.begin() + begin;
    const int64_t skipped = std::clamp<int64_t>(options.from - 1 - begin, 0, count);
    const int64_t end = std::min(count, n - 1 - begin);  // the last token has no successor
    const int64_t labelled = std::max<int64_t>(end - skipped, 0);
    batch.tokens.assign(from, from + count);
    batch.targets.assign(static_cast<size_t>(count), -1);
    std::copy_n(from + skipped + 1, labelled, batch.targets.begin() + skipped);
    batch.segments.assign(1, Segment{.begin = 0, .length = count, .state_in = &state, .state_out = &state});
    model.Forward(batch, gate, /*keep=*/false, context);
    selection.Add(context, count);
    logprobs.resize(static_cast<size_t>(count));
    if (labelled > 0) model.Score(context, logprobs.data());
    const std::span<const float> scored(logprobs.data() + skipped, static_cast<size_t>(labelled));
    const int64_t first = begin + skipped + 1;
    result.scored += labelled;
    result.sum_logprob += SumOfFinite(scored, first);
    if (options.on_logprobs && labelled > 0) options.on_logprobs(first, scored);
    if (options.on_logits) SendLogits(model, context, begin, count, options);
    if (options.on_progress) options.on_progress(begin + count);
  });
  result.tokens = n;
  result.selected_share = selection.Shares();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

ScoreResult ScoreWindows(const LanguageModel& model, std::span<const int32_t> tokens, const WindowOptions& options) {
  CHECK(0 < options.stride && options.stride <= options.context);
  const int64_t n = static_cast<int64_t>(tokens.size());
  ScoreResult result;
  int64_t scored_to = 1;  // the first token that no window has scored yet
  int64_t read = 0;       // tokens of all windows
  for (int64_t begin = 0; scored_to < n || begin == 0; begin += options.stride) {
    const int64_t end = std::min(begin + options.context, n);
    ScoreOptions window;
    window.from = std::max<int64_t>(scored_to - begin, 1);
    if (options.on_logprobs) {
      window.on_logprobs = [&](int64_t first, std::span<const float> part) {
        options.on_logprobs(begin, begin + first, part);
      };
    }
    const ScoreResult part =
        ScoreTokens(model, tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)), window);
    result.sum_logprob += part.sum_logprob;
    result.scored += part.scored;
    result.seconds += part.seconds;
    result.selected_share.resize(part.selected_share.size());
    const double weight = static_cast<double>(part.tokens);
    for (size_t i = 0; i < part.selected_share.size(); ++i) result.selected_share[i] += part.selected_share[i] * weight;
    read += part.tokens;
    scored_to = end;
    if (options.on_progress) options.on_progress(end);
  }
  for (double& share : result.selected_share) share /= static_cast<double>(read);
  result.tokens = n;
  return result;
}

}  // namespace taipan
