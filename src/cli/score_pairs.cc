// taipan score --pairs: log p of continuations, cut and tokenized as lm-evaluation-harness does it.

#include <algorithm>

#include "base/error.h"
#include "base/fields.h"
#include "cli/model_argument.h"
#include "cli/score_internal.h"
#include "cli/token_lines.h"
#include "infer/continuations.h"

namespace taipan {
namespace {

struct Pair {
  std::string context, continuation;
  std::string where;  // file and line
};

std::string RequireText(const Json& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) {
    throw UserError({where, fmt::format("\"{}\" is not there or no text", key),
                     R"({"context": "...", "continuation": "..."})", DescribeJson(json)});
  }
  return found->get<std::string>();
}

std::vector<Pair> ParsePairs(std::string_view text, const std::string& name) {
  std::vector<Pair> pairs;
  ForEachLine(text, name, [&](std::string_view line, const std::string& where) {
    const Json json = ParseJson(line, where);
    if (!json.is_object()) {
      throw UserError({where, "not a pair", R"({"context": "...", "continuation": "..."})", DescribeJson(json)});
    }
    pairs.push_back({RequireText(json, "context", where), RequireText(json, "continuation", where), where});
  });
  if (pairs.empty()) throw UserError({name, "no pairs", "a JSON object a line", "an empty file"});
  return pairs;
}

// How many bytes of white space, as Python's str.rstrip() sees it, end the text.
size_t TrailingSpace(std::string_view text) {
  static constexpr std::string_view kSpaces[] = {
      " ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",   "\x1e",   "\x1f",
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  size_t end = text.size();
  const auto ends_with = [&](std::string_view space) { return text.substr(0, end).ends_with(space); };
  for (;;) {
    const auto* found = std::find_if(std::begin(kSpaces), std::end(kSpaces), ends_with);
    if (found == std::end(kSpaces)) return text.size() - end;
    end -= found->size();
  }
}

// White space that ends the context belongs to the continuation; the whole is encoded, and what follows as many tokens
// as the context alone has is the continuation. An empty context is BOS, else EOS.
Continuation EncodePair(const Tokenizer& tokenizer, const Pair& pair) {
  Continuation result;
  if (pair.context.empty()) {
    const std::optional<int32_t> prefix = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    std::vector<int32_t> tokens = tokenizer.Encode(pair.continuation);
    if (prefix && (tokens.empty() || tokens[0] != *prefix)) tokens.insert(tokens.begin(), *prefix);
    if (tokens.size() > 1) {
      result.context.assign(tokens.begin(), tokens.begin() + 1);
      result.continuation.assign(tokens.begin() + 1, tokens.end());
    }
  } else {
    const std::string_view context =
        std::string_view(pair.context).substr(0, pair.context.size() - TrailingSpace(pair.context));
    result.context = EncodeText(tokenizer, context);
    const std::vector<int32_t> whole = EncodeText(tokenizer, pair.context + pair.continuation);
    const size_t cut = std::min(result.context.size(), whole.size());
    result.continuation.assign(whole.begin() + static_cast<int64_t>(cut), whole.end());
  }
  if (result.context.empty() || result.continuation.empty()) {
    throw UserError({pair.where, "nothing to score", "a context and a continuation of a token each at least",
                     fmt::format("{} and {} tokens", result.context.size(), result.continuation.size()),
                     result.context.empty() ? "the tokenizer has no BOS or EOS to stand for an empty context" : ""});
  }
  return result;
}

// The tokens furthest back are dropped until `context` tokens predict the last one.
void Truncate(Continuation& question, int64_t context, const std::string& where) {
  const int64_t tokens = static_cast<int64_t>(question.context.size() + question.continuation.size());
  if (tokens <= context + 1) return;
  const int64_t drop = tokens - context - 1;
  if (drop >= static_cast<int64_t>(question.context.size())) {
    throw UserError({where, "the continuation alone is longer than --context",
                     fmt::format("at most {} tokens", context), fmt::format("{}", question.continuation.size())});
  }
  question.context.erase(question.context.begin(), question.context.begin() + drop);
}

std::vector<Continuation> EncodePairs(const Tokenizer& tokenizer, const std::vector<Pair>& pairs,
                                      const ScoreFlags& flags) {
  std::vector<Continuation> questions;
  for (const Pair& pair : pairs) {
    questions.push_back(EncodePair(tokenizer, pair));
    if (flags.context > 0) Truncate(questions.back(), flags.context, pair.where);
  }
  return questions;
}

}  // namespace

void ScorePairs(const LanguageModel& model, const Tokenizer& tokenizer, const ScoreFlags& flags) {
  const std::vector<Pair> pairs = ParsePairs(ReadInput(flags.pairs), InputName(flags.pairs));
  const std::vector<Continuation> questions = EncodePairs(tokenizer, pairs, flags);
  CountProgress progress("scoring:", static_cast<int64_t>(questions.size()), "pairs");
  const std::vector<ContinuationScore> scores =
      ScoreContinuations(model, questions, [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < scores.size(); ++i) {
    const size_t context = questions[i].context.size(), continuation = questions[i].continuation.size();
    if (flags.json) {
      PrintJson({{"index", i},
                 {"context_tokens", context},
                 {"continuation_tokens", continuation},
                 {"continuation_bytes", pairs[i].continuation.size()},
                 {"sum_logprob", scores[i].sum_logprob},
                 {"greedy", scores[i].greedy}});
      continue;
    }
    rows.push_back({std::to_string(i), std::to_string(context), std::to_string(continuation),
                    fmt::format("{:.6f}", scores[i].sum_logprob), scores[i].greedy ? "yes" : "no"});
  }
  if (!flags.json) Print(FormatTable({{"index"}, {"context"}, {"continuation"}, {"sum logprob"}, {"greedy"}}, rows));
}

}  // namespace taipan
