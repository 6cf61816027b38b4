#pragma once
// Answers a task's items with a model.

#include <functional>
#include <optional>
#include <vector>

#include "eval/encode.h"
#include "eval/items_file.h"
#include "eval/result.h"
#include "eval/task.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

// A task with its items as tokens. Everything that can be wrong with them has been found before the first is answered.
struct PreparedTask {
  EvalTask task = {};
  std::vector<EncodedItem> items = {};                  // [task.items]
  std::vector<std::optional<ItemResult>> results = {};  // likewise
  double seconds = 0;

  int64_t TokensLeft() const;  // of items without a result
  TaskResult Summary() const;
};

// tokenizer: null where all items are tokens already. limit: at most so many items, the first; 0: all.
PreparedTask PrepareTask(EvalTask task, int64_t limit, const Tokenizer* tokenizer, const ContextLimit& context);

// Results of the same tokens that an earlier run left.
void TakeKept(const ItemsFile& file, PreparedTask& task);

struct AnswerOptions {
  std::vector<int32_t> stop_tokens = {};                  // that end a completion
  std::function<bool()> stop = nullptr;                   // asked between groups of items; may be null
  std::function<void(int64_t tokens)> on_read = nullptr;  // of the items of a group; may be null
  ItemsFile* file = nullptr;                              // gets each group's results; may be null
};

// Keeps results of items; seconds: that they took.
void KeepResults(const std::vector<size_t>& items, std::vector<ItemResult> results, double seconds, ItemsFile* file,
                 PreparedTask& task);

// Items without a result get one, a group of some thousand tokens at a time. False where `stop` ended it.
bool AnswerItems(const LanguageModel& model, const Tokenizer* tokenizer, const AnswerOptions& options,
                 PreparedTask& task);

}  // namespace taipan
