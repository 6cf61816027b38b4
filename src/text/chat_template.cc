#include "text/chat_template.h"

#include "text/jinja_render.h"

namespace taipan {

ChatTemplate::ChatTemplate(std::string_view source, std::string where,
                           std::map<std::string, std::string> special_tokens)
    : statements_(jinja::Parse(source, where)), where_(std::move(where)), special_tokens_(std::move(special_tokens)) {}

std::string ChatTemplate::Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  jinja::Value list = jinja::Value::array();
  for (const ChatMessage& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  // What Hugging Face gives a template besides, where there are no tools and documents.
  std::map<std::string, jinja::Value> variables = {{"messages", std::move(list)},
                                                   {"add_generation_prompt", add_generation_prompt},
                                                   {"tools", nullptr},
                                                   {"documents", nullptr}};
  for (const auto& [name, text] : special_tokens_) variables[name] = text;
  return jinja::Render(statements_, std::move(variables), where_);
}

}  // namespace taipan
