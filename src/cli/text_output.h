#pragma once
// What a model writes, shown as it comes: whole characters, and nothing in which a stop text may begin.

#include <optional>
#include <string>
#include <vector>

#include "infer/stop_text.h"
#include "text/tokenizer.h"

namespace taipan {

struct TextOutputOptions {
  bool show = true, keep = false;  // on standard output; for text()
  bool show_special = false;       // special tokens too
  bool end_line = false;           // a line feed at the end where there is none
  std::vector<std::string> stop = {};
};

class TextOutput {
 public:
  // after: a token of the same text that was shown before, such as the prompt's last.
  TextOutput(const Tokenizer& tokenizer, std::optional<int32_t> after, const TextOutputOptions& options);

  // False once a stop text was found.
  bool Add(int32_t token);
  // stop_token: the one that ended the text; it is shown where special tokens are.
  void Finish(std::optional<int32_t> stop_token);
  bool stopped() const { return stop_.found(); }
  const std::string& text() const { return text_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }  // where text is kept

 private:
  void ShowToken(int32_t token);
  void Show(const std::string& piece);

  const TextOutputOptions options_;
  const Tokenizer& tokenizer_;
  char last_ = '\n';  // shown
  DecodeStream stream_;
  StopText stop_;
  std::string text_;
  std::vector<int32_t> tokens_;
};

}  // namespace taipan
