#include "train/validation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "model/selection.h"
#include "train/batch_source.h"

namespace taipan {
namespace {

// Windows [first, first + rows) of the data as one batch; window k scores the targets k*n+1 ... k*n+n.
void FillWindows(const Corpus& corpus, const ValidationOptions& options, int64_t targets, int64_t first, Batch& batch) {
  const int64_t context = options.context, windows = (targets + context - 1) / context;
  std::vector<int32_t> window(static_cast<size_t>(context + 1));
  ClearBatch(batch);
  for (int64_t row = 0; row < std::min(options.rows, windows - first); ++row) {
    const int64_t begin = (first + row) * context;
    const int64_t n = std::min(context, targets - begin);
    if (options.separate) {
      for (const Piece& piece : PiecesBetween(corpus, begin, n)) AppendPiece(batch, corpus, piece, row);
      continue;
    }
    corpus.Read(begin, n + 1, window.data());
    AppendWindow(batch, window.data(), n, row);
  }
}

// Bytes of text that tokens [1, 1 + count) stand for; 0: not known.
double TextBytes(const Corpus& corpus, const Tokenizer* tokenizer, int64_t count) {
  if (corpus.bytes_are_tokens() && !corpus.eos()) return static_cast<double>(count);
  if (!tokenizer) return 0;
  constexpr int64_t kPiece = 65536;
  std::vector<int32_t> ids;
  double bytes = 0;
  for (int64_t begin = 1; begin < 1 + count; begin += kPiece) {
    ids.resize(static_cast<size_t>(std::min(kPiece, 1 + count - begin)));
    corpus.Read(begin, static_cast<int64_t>(ids.size()), ids.data());
    if (corpus.eos()) std::erase(ids, *corpus.eos());
    bytes += static_cast<double>(tokenizer->Decode(ids).size());
  }
  return bytes;
}

// What the targets of a batch come to: the sum of their weights, and their bytes of text where all are not.
struct Scored {
  double weight = 0, bytes = 0;
  int64_t tokens = 0;

  void Add(const Batch& batch, const Corpus& corpus, const Tokenizer* tokenizer) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (batch.targets[i] < 0) continue;
      ids.push_back(batch.targets[i]);
      weight += batch.weights.empty() ? 1.0 : static_cast<double>(batch.weights[i]);
    }
    tokens += static_cast<int64_t>(ids.size());
    if (corpus.eos()) std::erase(ids, *corpus.eos());
    bytes += static_cast<double>(tokenizer                   ? tokenizer->Decode(ids).size()
                                 : corpus.bytes_are_tokens() ? ids.size()
                                                             : 0);
  }
};

// Every segment is a context.
void AddRecall(const Batch& batch, const std::vector<float>& logprobs, int64_t reach, RecallLoss& recall) {
  std::vector<int32_t> tokens;
  for (const Segment& s : batch.segments) {
    const auto begin = static_cast<size_t>(s.begin), length = static_cast<size_t>(s.length);
    tokens.assign(batch.tokens.begin() + s.begin, batch.tokens.begin() + s.begin + s.length);
    tokens.push_back(std::max(0, batch.targets[begin + length - 1]));
    const std::vector<bool> hits = RecallHits(tokens, reach);
    for (size_t i = 0; i < length; ++i) {
      if (batch.targets[begin + i] >= 0) recall.Add(hits[i], logprobs[begin + i]);
    }
  }
}

}  // namespace

std::optional<ValidMetrics> Validate(const LanguageModel& model, const Corpus& corpus, const Tokenizer* tokenizer,
                                     const ValidationOptions& options, ForwardContext& context) {
  CHECK_GE(corpus.size(), 2);
  const int64_t targets = std::min(corpus.size() - 1, options.max_tokens);
  const int64_t windows = (targets + options.context - 1) / options.context;
  const GateOptions silent = InferenceGate(model.config());
  GateOptions noisy = silent;
  noisy.noise = GateNoise::kCounter;
  noisy.seed = options.seed;
  Batch batch;
  ValidMetrics m;
  SelectionCounts share, share_noise;
  double negative_log_p = 0;
  Scored scored;  // of separate documents
  for (int64_t first = 0; first < windows; first += options.rows) {
    if (options.stop && options.stop()) return std::nullopt;
    FillWindows(corpus, options, targets, first, batch);
    if (batch.tokens.empty()) continue;
    if (options.separate) scored.Add(batch, corpus, tokenizer);
    model.Forward(batch, silent, /*keep=*/false, context);
    share.Add(context, batch.size());
    std::vector<float> logprobs(batch.tokens.size());
    negative_log_p += model.Score(context, logprobs.data());
    AddRecall(batch, logprobs, model.config().conv_kernel, m.recall);
    if (!options.noise || share.selected.empty() || 4 * first >= windows) continue;
    noisy.step = static_cast<uint32_t>(first);  // other noise for every batch
    model.Forward(batch, noisy, /*keep=*/false, context);
    share_noise.Add(context, batch.size());
  }
  m.step = options.step;
  m.tokens = options.separate ? scored.tokens : targets;
  m.weight = options.separate ? scored.weight : static_cast<double>(targets);
  m.ce = negative_log_p / m.weight;
  m.bytes = options.separate ? scored.bytes : TextBytes(corpus, tokenizer, targets);
  m.bits_per_byte =
      m.bytes > 0 ? negative_log_p / std::numbers::ln2 / m.bytes : std::numeric_limits<double>::quiet_NaN();
  m.selected_share = share.Shares();
  m.selected_share_noise = options.noise ? share_noise.Shares() : m.selected_share;
  return m;
}

double BytesPerToken(const Corpus& corpus, const Tokenizer* tokenizer) {
  const int64_t count = std::min<int64_t>(corpus.size() - 1, 65536);
  return count > 0 ? TextBytes(corpus, tokenizer, count) / static_cast<double>(count) : 0;
}

}  // namespace taipan
