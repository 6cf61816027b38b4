#pragma once
// What a model writes behind prompts: greedily, a line.

#include <span>
#include <string>
#include <vector>

#include "infer/stop_text.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace taipan {

// Tokens to the text of one line.
class LineWriter {
 public:
  explicit LineWriter(const Tokenizer& tokenizer) : stream_(tokenizer), stop_(std::vector<std::string>{"\n"}) {}
  bool Add(int32_t token);  // false once the line has ended
  std::string Finish();     // all of it

 private:
  DecodeStream stream_;
  StopText stop_;
  std::string text_;
};

// A text a prompt, without the line feed that ends it; of kCompletionTokens at most. Prompts that follow each other and
// begin alike are read once as far as they do.
std::vector<std::string> Complete(const LanguageModel& model, const Tokenizer& tokenizer,
                                  const std::vector<std::span<const int32_t>>& prompts,
                                  const std::vector<int32_t>& stop_tokens);

}  // namespace taipan
