#pragma once
// Messages to the text a chat model was trained on. Templates are Jinja, run as transformers' apply_chat_template runs
// them; what is not supported is refused by its name where it is reached.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/syntax.h"

namespace taipan {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// What a template may look at.
struct ChatInput {
  jinja::Value messages;          // a list of dicts: "role", "content" and whatever else the template knows
  jinja::Value tools, documents;  // None or lists
  std::map<std::string, jinja::Value> variables = {};  // others, before the special tokens
  bool add_generation_prompt = true;                   // up to where the assistant's answer begins
};

class ChatTemplate {
 public:
  // `source` is what tokenizer_config.json, chat_template.jinja or a GGUF file's tokenizer.chat_template hold; `where`
  // names that file in errors. `special_tokens` are the variables bos_token, eos_token and the like by their texts.
  ChatTemplate(std::string_view source, std::string where, std::map<std::string, std::string> special_tokens);

  // The text holds special tokens as text, BOS too where the template writes it: encode it with parse_special and
  // without add_special_tokens. UserError for messages that the template refuses (such as roles in the wrong order).
  std::string Render(ChatInput input) const;
  std::string Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const;

 private:
  std::vector<jinja::Statement> statements_;
  std::string where_;
  std::map<std::string, std::string> special_tokens_;
};

}  // namespace taipan
