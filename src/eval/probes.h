#pragma once
// Sequences of random tokens that ask for what stood before: recall without language. Made by seed alone.

#include <functional>
#include <string>
#include <vector>

#include "eval/result.h"
#include "eval/task.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

struct ProbeOptions {
  int64_t vocab = 0;    // of the model
  int64_t each = 1000;  // sequences a cell
  uint64_t seed = 0;
  const Tokenizer* tokenizer = nullptr;                         // null: all ids are alike
  std::function<double(int64_t length)> state_bytes = nullptr;  // a column of the results; may be null
};

std::vector<std::string> ProbeNames();  // "mqar", "joint_recall", "copy", "induction"
// "mqar", or "mqar:256x16" for one of its settings: 256 tokens, 16 pairs.
bool IsProbe(const std::string& name);
// UserError for a setting that is none, or that the model's vocabulary is too small for.
EvalTask MakeProbe(const std::string& name, const ProbeOptions& options);

// Results of items of kTokens.
std::vector<ItemResult> AnswerProbes(const LanguageModel& model, const std::vector<const EvalItem*>& items);

}  // namespace taipan
