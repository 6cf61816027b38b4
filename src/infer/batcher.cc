#include "infer/batcher.h"

#include <algorithm>

#include "kernels/gemm/gemm_rows.h"

namespace taipan {

Batcher::Batcher(const LanguageModel& model, const BatcherOptions& options)
    : model_(model), options_(options), gate_(InferenceGate(model.config())) {
  if (options_.piece <= 0) options_.piece = PieceLength(model.config());
  options_.most_sequences = std::max<int64_t>(options_.most_sequences, 1);
}

Batcher::Sequence::Sequence(BatchRequest r)
    : request(std::move(r)),
      sampler(request.options.sampling, request.options.mask),
      keeps_tokens(request.keep_state || sampler.needs_history()) {}

int64_t Batcher::Add(BatchRequest request) {
  CheckTokenIds(request.prompt, model_.config().vocab_size, "prompt");
  const bool has_logits = request.from && !request.from->logits.empty();
  if (request.prompt.empty() && !has_logits) {
    throw UserError({"prompt", "generation needs a token to start from", "at least one token", "an empty prompt"});
  }
  ValidateSampling(request.options.sampling);
  Sequence& s = waiting_.emplace_back(std::move(request));
  s.id = next_id_++;
  if (s.request.from) {
    s.at = std::move(*s.request.from);
    s.request.from.reset();
  } else {
    s.at.state = model_.NewState();
  }
  s.unread = std::move(s.request.prompt);
  s.prompt_tokens = static_cast<int64_t>(s.unread.size());
  s.has_logits = s.unread.empty();
  return s.id;
}

void Batcher::Cancel(int64_t id) {
  for (Sequence& s : running_) s.cancelled |= s.id == id;
  for (Sequence& s : waiting_) s.cancelled |= s.id == id;
}

void Batcher::Admit() {
  while (!waiting_.empty() && running() < options_.most_sequences) {
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

int64_t Batcher::NextPiece(const Sequence& s) const {
  const int64_t to_grid = options_.piece - s.at.state.position % options_.piece;
  return std::min(to_grid, static_cast<int64_t>(s.unread.size() - s.read));
}

// The sequence has read its next `count` tokens; logits_row: that of logits_ with what follows them.
void Batcher::HasRead(Sequence& s, int64_t count, std::optional<int64_t> logits_row) {
  if (s.keeps_tokens) {
    const auto tokens = std::span<const int32_t>(s.unread).subspan(s.read, static_cast<size_t>(count));
    s.at.token_digest = DigestTokens(tokens, s.at.token_digest);
    s.at.tokens.insert(s.at.tokens.end(), tokens.begin(), tokens.end());
  }
  s.read += static_cast<size_t>(count);
  if (!logits_row) return;
  const float* row = logits_.F32() + *logits_row * model_.config().vocab_size;
  s.at.logits.assign(row, row + model_.config().vocab_size);
  s.has_logits = true;
}

// Tokens that are drawn and short ends of prompts, as one forward. Products treat each row as they do alone.
void Batcher::ReadTogether(std::span<Sequence* const> few) {
  if (few.empty()) return;
  batch_ = {};
  batch_.rows_alone = true;
  rows_.clear();
  for (Sequence* s : few) {
    const int64_t count = NextPiece(*s), begin = batch_.size();
    const auto from = s->unread.begin() + static_cast<std::ptrdiff_t>(s->read);
    batch_.tokens.insert(batch_.tokens.end(), from, from + static_cast<std::ptrdiff_t>(count));
    batch_.segments.push_back({.begin = begin,
                               .length = count,
                               .row = static_cast<int64_t>(batch_.segments.size()),
                               .state_in = &s->at.state,
                               .state_out = &s->at.state});
    if (s->read + static_cast<size_t>(count) == s->unread.size()) rows_.push_back(begin + count - 1);
  }
  model_.Forward(batch_, gate_, /*keep=*/false, context_);
  selection_.Add(context_, batch_.size());
  if (logits_.size() < static_cast<int64_t>(rows_.size()) * model_.config().vocab_size) {
    logits_ = Tensor({static_cast<int64_t>(rows_.size()), model_.config().vocab_size});
  }
  const int64_t n = static_cast<int64_t>(rows_.size()), vocab = model_.config().vocab_size;
  if (n > 0) model_.Logits(context_, rows_, {logits_.F32(), n, vocab});
  int64_t row = 0;
  for (size_t i = 0; i < few.size(); ++i) {
    Sequence& s = *few[i];
    const int64_t count = batch_.segments[i].length;
    const bool last = s.read + static_cast<size_t>(count) == s.unread.size();
    HasRead(s, count, last ? std::optional(row++) : std::nullopt);
  }
}

// Whole pieces of prompts, each a forward of its own, which is work enough for one; as many as the budget allows.
void Batcher::ReadPieces(std::span<Sequence* const> sequences) {
  int64_t used = 0;
  for (Sequence* s : sequences) {
    const int64_t count = NextPiece(*s);
    if (used > 0 && used + count > options_.step_tokens) break;
    used += count;
    const auto from = s->unread.begin() + static_cast<std::ptrdiff_t>(s->read);
    batch_ = {};
    batch_.tokens.assign(from, from + static_cast<std::ptrdiff_t>(count));
    batch_.segments.push_back({.begin = 0, .length = count, .state_in = &s->at.state, .state_out = &s->at.state});
    model_.Forward(batch_, gate_, /*keep=*/false, context_);
    selection_.Add(context_, count);
    const bool last = s->read + static_cast<size_t>(count) == s->unread.size();
    if (last) {
      rows_.assign(1, count - 1);
      if (logits_.empty()) logits_ = Tensor({1, model_.config().vocab_size});
      model_.Logits(context_, rows_, {logits_.F32(), 1, model_.config().vocab_size});
    }
    HasRead(*s, count, last ? std::optional<int64_t>(0) : std::nullopt);
  }
}

// A token from the logits, which is to be read next, or the sequence's end.
void Batcher::Draw(Sequence& s) {
  const GenerationOptions& options = s.request.options;
  BatchResult result;
  if (s.generated >= options.max_tokens) {
    s.end = result;
    return;
  }
  const std::span<const float> logits(s.at.logits);
  const size_t vocab =
      options.vocab_limit > 0 ? std::min(static_cast<size_t>(options.vocab_limit), logits.size()) : logits.size();
  const int32_t token = s.sampler.Sample(logits.first(vocab), s.at.state.position, s.at.tokens, s.generated);
  ++s.generated;
  s.unread.assign(1, token);
  s.read = 0;
  s.has_logits = false;
  const bool stop = std::count(options.stop_tokens.begin(), options.stop_tokens.end(), token) > 0;
  if (s.request.score) s.logprob += LogprobsOf(logits.first(vocab), token, 0).chosen.logprob;
  if (options.on_logprobs && !stop) {
    options.on_logprobs(LogprobsOf(logits.first(vocab), token, options.top_logprobs));
  }
  if (stop) {
    result.reason = StopReason::kStopToken;
    result.stop_token = token;
    s.end = result;
  } else if (s.request.on_token && !s.request.on_token(token, logits)) {
    result.reason = StopReason::kCallback;
    s.end = result;
  } else if (s.generated >= options.max_tokens) {
    s.end = result;
  }
}

// Where there are logits a token is drawn; sequences that have ended leave, with keep_state after their last token.
void Batcher::DrawAndEnd() {
  for (auto s = running_.begin(); s != running_.end();) {
    if (s->cancelled && !s->end) {
      s->end = BatchResult{.reason = StopReason::kStopped};
    } else if (s->has_logits && !s->end) {
      Draw(*s);
    }
    // What was drawn is read, the rest of a prompt that was cancelled is not.
    const bool wanted = !s->cancelled || s->generated > 0;
    const bool read_on = s->request.keep_state && wanted && s->read < s->unread.size();
    if (!s->end || read_on) {
      ++s;
      continue;
    }
    BatchResult result = std::move(*s->end);
    result.generated_tokens = s->generated;
    result.prompt_tokens = s->prompt_tokens;
    result.logprob = s->logprob;
    if (s->request.keep_state) {
      result.snapshot = std::move(s->at);
      SequenceSnapshot& after = *result.snapshot;
      if (static_cast<int64_t>(after.tokens.size()) != after.state.position) after.tokens.clear();  // not all are known
    }
    const auto on_end = std::move(s->request.on_end);
    s = running_.erase(s);
    if (on_end) on_end(std::move(result));
  }
}

bool Batcher::Step() {
  Admit();
  DrawAndEnd();
  Admit();
  std::vector<Sequence*> few, pieces;
  for (Sequence& s : running_) {
    if (s.read == s.unread.size()) continue;  // its logits came with it
    (NextPiece(s) <= kFewRows ? few : pieces).push_back(&s);
  }
  ReadTogether(few);
  ReadPieces(pieces);
  DrawAndEnd();
  return !running_.empty() || !waiting_.empty();
}

}  // namespace taipan
