#include "eval/run.h"

#include <algorithm>

#include "base/clock.h"
#include "base/error.h"
#include "eval/completions.h"
#include "eval/probes.h"

namespace taipan {
namespace {

// Read between two saves and two looks for a signal, about. Completions take more: they share documents, and forwards
// while they are written.
constexpr int64_t kGroupTokens = 2048, kCompletionGroupTokens = 8192;

using Group = std::vector<size_t>;

std::vector<ItemResult> AnswerOptionsOf(const LanguageModel& model, const PreparedTask& task, const Group& group) {
  std::vector<Continuation> questions;
  for (const size_t i : group) {
    questions.insert(questions.end(), task.items[i].questions.begin(), task.items[i].questions.end());
  }
  const std::vector<ContinuationScore> scores = ScoreContinuations(model, questions);
  std::vector<ItemResult> results;
  size_t at = 0;
  for (const size_t i : group) {
    ItemResult& result = results.emplace_back();
    for (size_t option = 0; option < task.items[i].questions.size(); ++option, ++at) {
      result.logprobs.push_back(scores[at].sum_logprob);
      result.greedy.push_back(scores[at].greedy);
    }
  }
  return results;
}

std::vector<ItemResult> Answer(const LanguageModel& model, const Tokenizer* tokenizer, const AnswerOptions& options,
                               const PreparedTask& task, const Group& group) {
  if (task.task.measure == Measure::kTokens) {
    std::vector<const EvalItem*> items;
    for (const size_t i : group) items.push_back(&task.task.items[i]);
    return AnswerProbes(model, items);
  }
  if (task.task.measure != Measure::kCompletion) return AnswerOptionsOf(model, task, group);
  std::vector<std::span<const int32_t>> prompts;
  for (const size_t i : group) prompts.emplace_back(task.items[i].prompt);
  std::vector<ItemResult> results;
  for (std::string& text : Complete(model, *tokenizer, prompts, options.stop_tokens)) {
    results.push_back({.completion = std::move(text)});
  }
  return results;
}

}  // namespace

int64_t PreparedTask::TokensLeft() const {
  int64_t tokens = 0;
  for (size_t i = 0; i < items.size(); ++i) tokens += results[i] ? 0 : items[i].tokens;
  return tokens;
}

TaskResult PreparedTask::Summary() const {
  TaskResult summary = Summarise(task, results);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!results[i]) continue;
    summary.cut += items[i].cut;
    summary.joined += items[i].joined;
  }
  summary.seconds = seconds;
  return summary;
}

PreparedTask PrepareTask(EvalTask task, int64_t limit, const Tokenizer* tokenizer, const ContextLimit& context) {
  PreparedTask prepared;
  if (limit > 0 && limit < std::ssize(task.items)) task.items.resize(static_cast<size_t>(limit));
  for (const EvalItem& item : task.items) prepared.items.push_back(EncodeItem(tokenizer, item, context));
  prepared.results.resize(task.items.size());
  prepared.task = std::move(task);
  return prepared;
}

void TakeKept(const ItemsFile& file, PreparedTask& task) {
  for (size_t i = 0; i < task.items.size(); ++i) {
    const ItemResult* kept = file.Find(task.items[i].digest);
    if (kept != nullptr && kept->logprobs.size() == task.items[i].scores) task.results[i] = *kept;
  }
}

void KeepResults(const std::vector<size_t>& items, std::vector<ItemResult> results, double seconds, ItemsFile* file,
                 PreparedTask& task) {
  std::vector<KeptItem> kept;
  for (size_t i = 0; i < items.size(); ++i) {
    if (file != nullptr) kept.push_back({static_cast<int64_t>(items[i]), task.items[items[i]].digest, results[i]});
    task.results[items[i]] = std::move(results[i]);
  }
  task.seconds += seconds;
  if (file != nullptr) file->Append(kept);
}

bool AnswerItems(const LanguageModel& model, const Tokenizer* tokenizer, const AnswerOptions& options,
                 PreparedTask& task) {
  const int64_t enough = task.task.measure == Measure::kCompletion ? kCompletionGroupTokens : kGroupTokens;
  for (size_t next = 0; next < task.items.size();) {
    if (options.stop && options.stop()) return false;
    Group group;
    int64_t tokens = 0;
    for (; next < task.items.size() && tokens < enough; ++next) {
      if (task.results[next]) continue;
      group.push_back(next);
      tokens += task.items[next].tokens;
    }
    if (group.empty()) break;
    const double start = NowSeconds();
    std::vector<ItemResult> results = Answer(model, tokenizer, options, task, group);
    KeepResults(group, std::move(results), NowSeconds() - start, options.file, task);
    if (options.on_read) options.on_read(tokens);
  }
  return true;
}

}  // namespace taipan
