#pragma once
// Messages to the text a chat model was trained on. Templates are Jinja; the subset that published ones use is run
// exactly as Hugging Face runs it, and everything outside of the subset is refused by its name.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_syntax.h"

namespace taipan {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  // `source` is what tokenizer_config.json, chat_template.jinja or a GGUF file's tokenizer.chat_template hold; `where`
  // names that file in errors. `special_tokens` are the variables bos_token, eos_token and the like by their texts.
  ChatTemplate(std::string_view source, std::string where, std::map<std::string, std::string> special_tokens);

  // With add_generation_prompt, up to where the assistant's answer begins. The text holds special tokens as text, BOS
  // too where the template writes it: encode it with parse_special and without add_special_tokens. UserError for
  // messages that the template refuses (such as roles in the wrong order).
  std::string Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;

 private:
  std::vector<jinja::Statement> statements_;
  std::string where_;
  std::map<std::string, std::string> special_tokens_;
};

}  // namespace taipan
