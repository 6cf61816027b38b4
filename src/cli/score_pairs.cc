// taipan score --pairs: log p of continuations, cut and tokenized as lm-evaluation-harness does it.

#include "base/error.h"
#include "base/fields.h"
#include "cli/model_argument.h"
#include "cli/score_internal.h"
#include "cli/token_lines.h"
#include "infer/pair_tokens.h"

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

std::vector<Continuation> EncodePairs(const Tokenizer& tokenizer, const std::vector<Pair>& pairs,
                                      const ScoreFlags& flags) {
  std::vector<Continuation> questions;
  for (const Pair& pair : pairs) {
    questions.push_back(EncodePair(tokenizer, pair.context, pair.continuation, pair.where).tokens);
    if (flags.context > 0) CutFromTheLeft(questions.back(), flags.context, pair.where, "--context");
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
