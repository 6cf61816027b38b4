#include "infer/pair_tokens.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "text/unicode/python_text.h"

namespace taipan {

PairTokens EncodePair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                      const std::string& where) {
  const EncodeOptions as_in_a_text = {.add_special_tokens = true, .parse_special = false};
  PairTokens result;
  std::vector<int32_t>&before = result.tokens.context, &after = result.tokens.continuation;
  if (context.empty()) {
    const std::optional<int32_t> prefix = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    std::vector<int32_t> tokens = tokenizer.Encode(continuation);
    if (prefix && (tokens.empty() || tokens[0] != *prefix)) tokens.insert(tokens.begin(), *prefix);
    if (tokens.size() > 1) {
      before.assign(tokens.begin(), tokens.begin() + 1);
      after.assign(tokens.begin() + 1, tokens.end());
    }
  } else {
    before = tokenizer.Encode(context.substr(0, context.size() - PythonSpaceAfter(context)), as_in_a_text);
    const std::vector<int32_t> whole = tokenizer.Encode(std::string(context) + std::string(continuation), as_in_a_text);
    const auto cut = whole.begin() + std::min(std::ssize(before), std::ssize(whole));
    result.joined = !std::equal(whole.begin(), cut, before.begin(), before.end());
    after.assign(cut, whole.end());
  }
  if (before.empty() || after.empty()) {
    throw UserError({where, "nothing to score", "a context and a continuation of a token each at least",
                     fmt::format("{} and {} tokens", before.size(), after.size()),
                     before.empty()  ? "the tokenizer has no BOS or EOS to stand for an empty context"
                     : result.joined ? "the tokenizer joins the continuation with the context's last token"
                                     : ""});
  }
  return result;
}

bool CutFromTheLeft(Continuation& question, int64_t context, const std::string& where, const std::string& limit) {
  const int64_t tokens = std::ssize(question.context) + std::ssize(question.continuation), drop = tokens - context - 1;
  if (drop <= 0) return false;
  if (drop >= std::ssize(question.context)) {
    throw UserError({where, "the continuation alone is longer than " + limit, fmt::format("at most {} tokens", context),
                     fmt::format("{}", question.continuation.size())});
  }
  question.context.erase(question.context.begin(), question.context.begin() + drop);
  return true;
}

}  // namespace taipan
