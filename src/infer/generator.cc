#include "infer/generator.h"

#include <algorithm>
#include <chrono>

namespace taipan {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

const char* NameOf(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxTokens:
      return "max_tokens";
    case StopReason::kStopToken:
      return "stop_token";
    case StopReason::kStopText:
      return "stop_text";
    case StopReason::kCallback:
      return "callback";
    case StopReason::kStopped:
      return "stopped";
  }
  return "";
}

Generator::Generator(const LanguageModel& model, int64_t piece)
    : reader_(model, piece), state_(model.NewState()), logits_({1, model.config().vocab_size}) {}

void Generator::Remember(std::span<const int32_t> read) {
  token_digest_ = DigestTokens(read, token_digest_);
  if (keep_tokens_) tokens_.insert(tokens_.end(), read.begin(), read.end());
}

void Generator::OnLogprobs(LogprobsSink sink) {
  on_logprobs_ = std::move(sink);
  reader_.OnLogprobs(on_logprobs_);
}

void Generator::Settle() const {
  if (lookahead_) lookahead_->Settle(state_);
}

const SequenceState& Generator::state() const {
  Settle();
  return state_;
}

int64_t Generator::Read(std::span<const int32_t> tokens, const std::function<void(int64_t)>& progress) {
  Settle();
  CheckTokenIds(tokens, logits_.size(), "tokens");  // before any is read
  const auto start = std::chrono::steady_clock::now();
  if (on_logprobs_ && has_logits_ && !tokens.empty() && scored_ <= state_.position && !Stopped()) {
    const auto first = static_cast<float>(LogprobsOf(logits(), tokens[0], 0).chosen.logprob);
    on_logprobs_(state_.position, {&first, 1});
  }
  const int64_t end = state_.position + static_cast<int64_t>(tokens.size());
  const int64_t read = reader_.Read(tokens, state_, progress, stop_);
  scored_ = state_.position + (next_known_ && state_.position == end ? 1 : 0);
  next_known_ = false;
  if (read == 0) return 0;
  Remember(tokens.first(static_cast<size_t>(read)));
  reader_.LastLogits(logits_.Matrix());
  has_logits_ = true;
  prompt_tokens_ += read;
  prompt_seconds_ += SecondsSince(start);
  return read;
}

GenerationStats Generator::PromptStats() const {
  return {.prompt_tokens = prompt_tokens_,
          .prompt_seconds = prompt_seconds_,
          .selected_share = reader_.selection().Shares(),
          .stop_token = std::nullopt};
}

GenerationStats Generator::Generate(const GenerationOptions& options, const std::function<bool(int32_t)>& on_token) {
  if (!has_logits_ && !Stopped()) {
    throw UserError({"prompt", "generation needs a token to start from", "at least one token", "an empty prompt"});
  }
  Sampler sampler(options.sampling, options.mask);
  const bool drafts = options.draft.match > 0;
  keep_tokens_ = keep_tokens_ || sampler.needs_history() || drafts;
  GenerationStats stats = PromptStats();
  const int64_t first = state().position;
  SequenceState* const state = &state_;
  lookahead_ = drafts ? std::make_unique<Lookahead>(reader_, options.draft) : nullptr;
  const size_t vocab =
      static_cast<size_t>(options.vocab_limit > 0 ? std::min(options.vocab_limit, logits_.size()) : logits_.size());
  const auto start = std::chrono::steady_clock::now();
  while (stats.generated_tokens < options.max_tokens) {
    if (Stopped()) {
      stats.stop_reason = StopReason::kStopped;
      break;
    }
    const int32_t token = sampler.Sample(logits().first(vocab), first + stats.generated_tokens, tokens_,
                                         sampler.needs_history() ? stats.generated_tokens : 0);
    const bool stop = std::count(options.stop_tokens.begin(), options.stop_tokens.end(), token) > 0;
    if (options.on_logprobs && !stop) {
      options.on_logprobs(LogprobsOf(logits().first(vocab), token, options.top_logprobs));
    }
    const bool wanted = stop || !on_token || on_token(token);
    if (lookahead_) {
      Remember({&token, 1});
      lookahead_->Step(tokens_, state_, logits_.Matrix());
    } else {
      reader_.Step({&token, 1}, {&state, 1}, logits_.Matrix());
      Remember({&token, 1});
    }
    ++stats.generated_tokens;
    if (stop) {
      stats.stop_reason = StopReason::kStopToken;
      stats.stop_token = token;
      break;
    }
    if (!wanted) {
      stats.stop_reason = StopReason::kCallback;
      break;
    }
  }
  Settle();
  if (lookahead_) stats.draft = lookahead_->stats();
  stats.generation_seconds = SecondsSince(start);
  stats.selected_share = reader_.selection().Shares();
  return stats;
}

std::span<const float> Generator::logits() const { return {logits_.F32(), static_cast<size_t>(logits_.size())}; }

SequenceSnapshot Generator::Snapshot() const {
  SequenceSnapshot snapshot{.state = state(), .token_digest = token_digest_};
  if (static_cast<int64_t>(tokens_.size()) == state_.position) snapshot.tokens = tokens_;
  if (has_logits_) snapshot.logits.assign(logits().begin(), logits().end());
  return snapshot;
}

void Generator::Continue(SequenceSnapshot snapshot) {
  lookahead_.reset();
  state_ = std::move(snapshot.state);
  token_digest_ = snapshot.token_digest;
  prompt_tokens_ = 0;
  prompt_seconds_ = 0;
  tokens_.clear();
  if (keep_tokens_) tokens_ = std::move(snapshot.tokens);
  has_logits_ = !snapshot.logits.empty();
  if (!has_logits_) return;
  CHECK_EQ(static_cast<int64_t>(snapshot.logits.size()), logits_.size());
  std::copy(snapshot.logits.begin(), snapshot.logits.end(), logits_.F32());
}

}  // namespace taipan
