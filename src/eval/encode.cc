#include "eval/encode.h"

#include "base/error.h"
#include "infer/pair_tokens.h"
#include "infer/token_digest.h"

namespace taipan {
namespace {

void EncodePrompt(const Tokenizer& tokenizer, const EvalItem& item, const ContextLimit& limit, EncodedItem& encoded) {
  encoded.prompt = tokenizer.Encode(item.prompt, {.add_special_tokens = true, .parse_special = false});
  if (encoded.prompt.empty()) throw UserError({item.where, "nothing to read", "a prompt of a token at least", "none"});
  const int64_t room = limit.tokens - kCompletionTokens, tokens = std::ssize(encoded.prompt);
  if (limit.tokens > 0 && tokens > room) {
    if (room < 1) {
      throw UserError({limit.from, "leaves no room for a completion",
                       fmt::format("more than {} tokens", kCompletionTokens), fmt::format("{}", limit.tokens)});
    }
    encoded.prompt.erase(encoded.prompt.begin(), encoded.prompt.begin() + (tokens - room));
    encoded.cut = true;
  }
  encoded.tokens = std::ssize(encoded.prompt) + kCompletionTokens;
  encoded.digest = DigestTokens(encoded.prompt);
}

}  // namespace

EncodedItem EncodeItem(const Tokenizer* tokenizer, const EvalItem& item, const ContextLimit& limit) {
  EncodedItem encoded;
  if (!item.tokens.empty()) {
    encoded.tokens = std::ssize(item.tokens);
    encoded.scores = item.targets.size();
    encoded.digest = DigestTokens(item.targets, DigestTokens(item.tokens));
    return encoded;
  }
  CHECK(tokenizer != nullptr);
  if (!item.prompt.empty()) {
    EncodePrompt(*tokenizer, item, limit, encoded);
    return encoded;
  }
  for (const EvalOption& option : item.options) {
    PairTokens pair = EncodePair(*tokenizer, option.context, option.continuation, item.where);
    encoded.joined = encoded.joined || pair.joined;
    if (limit.tokens > 0) encoded.cut |= CutFromTheLeft(pair.tokens, limit.tokens, item.where, limit.from);
    const Continuation& question = pair.tokens;
    const bool known = !encoded.questions.empty() && encoded.questions.back().context == question.context;
    encoded.tokens += std::ssize(question.continuation) + (known ? 0 : std::ssize(question.context));
    encoded.digest = DigestTokens(question.continuation, DigestTokens(question.context, encoded.digest + 1));
    encoded.questions.push_back(std::move(pair.tokens));
  }
  encoded.scores = encoded.questions.size();
  return encoded;
}

}  // namespace taipan
