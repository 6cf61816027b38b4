#pragma once
// Items as tokens.

#include <string>
#include <vector>

#include "eval/task.h"
#include "infer/continuations.h"
#include "text/tokenizer.h"

namespace taipan {

constexpr int64_t kCompletionTokens = 48;  // that a model may write, as in the harness's tasks of this kind

// The tokens that may stand before the last one; what is longer loses its beginning.
struct ContextLimit {
  int64_t tokens = 0;     // 0: none
  std::string from = {};  // who says so: "--context", "max_position_embeddings"
};

struct EncodedItem {
  std::vector<Continuation> questions = {};  // [options]
  std::vector<int32_t> prompt = {};          // of a completion
  bool cut = false;                          // its beginning is lost
  bool joined = false;                       // of an option: a token holds both sides of the boundary (PairTokens)
  int64_t tokens = 0;                        // to read: equal contexts once
  size_t scores = 0;                         // log-probabilities of its result
  uint64_t digest = 0;                       // of all of these tokens
};

// tokenizer: null for items that are tokens already.
EncodedItem EncodeItem(const Tokenizer* tokenizer, const EvalItem& item, const ContextLimit& limit);

}  // namespace taipan
