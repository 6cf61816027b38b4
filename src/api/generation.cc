#include "api/core.h"

namespace taipan {
inline namespace v1 {

namespace {

SamplingOptions SamplingOf(const GenerateOptions& o) {
  return {.temperature = o.temperature,
          .top_k = o.top_k,
          .top_p = o.top_p,
          .min_p = o.min_p,
          .seed = o.seed,
          .typical_p = o.typical_p,
          .repetition_penalty = o.repetition_penalty,
          .presence_penalty = o.presence_penalty,
          .frequency_penalty = o.frequency_penalty,
          .penalty_window = o.penalty_window,
          .logit_bias = o.logit_bias};
}

}  // namespace

GenerationOptions Model::Impl::OptionsOf(const GenerateOptions& o) const {
  GenerationOptions options;
  options.sampling = SamplingOf(o);
  if (o.mask) {
    options.mask = [mask = o.mask](std::span<const int32_t> generated, std::vector<bool>& allowed) {
      mask({generated.begin(), generated.end()}, allowed);
    };
  }
  options.max_tokens = o.max_tokens;
  if (o.draft_match < 0 || o.draft_match > kMostMatch) {
    throw UserError({"draft_match", "value out of range", fmt::format("from 0 (off) to {}", kMostMatch),
                     std::to_string(o.draft_match)});
  }
  options.draft.match = o.draft_match;
  options.stop_tokens = text.stop_tokens;
  if (o.stop_token) options.stop_tokens = {*o.stop_token};
  return options;
}

StopWatch Model::Impl::StopWatchOf(const GenerateOptions& o) const {
  return {o.stop_texts.empty() ? nullptr : &RequireTokenizer(), o.stop_texts};
}

StopWatch::StopWatch(const Tokenizer* tokenizer, const std::vector<std::string>& texts) : stop_(texts) {
  for (const std::string& text : texts) {
    if (text.empty()) throw UserError({"stop_texts", "a text is empty", "some text"});
  }
  if (tokenizer != nullptr) text_.emplace(*tokenizer);
}

bool StopWatch::Found(int32_t token) {
  if (text_) stop_.Append(text_->Append(token));
  return stop_.found();
}

}  // namespace v1
}  // namespace taipan
