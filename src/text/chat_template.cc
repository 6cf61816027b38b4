#include "text/chat_template.h"

#include "text/jinja/render.h"

namespace taipan {
namespace {

using jinja::Value;

// As transformers hands a message to the template: keys without a value are left out, and the words of reasoning are
// there under every name that templates know.
Value Prepared(const Value& message, jinja::Context& context) {
  if (!message.is_dict()) return message;
  const Value* reasoning = nullptr;
  for (const char* key : {"sreasoning_content", "sthinking", "sreasoning"}) {
    const Value* found = message.dict().Find(key);
    if (reasoning == nullptr && found != nullptr && !found->is_none()) reasoning = found;
  }
  jinja::DictMaker prepared(context);
  if (reasoning != nullptr) prepared.Set(Value("thinking"), *reasoning);
  for (const auto& [key, value] : message.dict().entries) {
    if (!value.is_none()) prepared.Set(key, value);
  }
  if (reasoning != nullptr) prepared.Set(Value("reasoning_content"), *reasoning);
  return prepared.Done();
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string where,
                           std::map<std::string, std::string> special_tokens)
    : statements_(jinja::Parse(source, where)), where_(std::move(where)), special_tokens_(std::move(special_tokens)) {}

std::string ChatTemplate::Render(ChatInput input) const {
  jinja::Context context(where_);
  std::vector<Value> messages;
  for (const Value& message : jinja::Elements(input.messages, context)) messages.push_back(Prepared(message, context));
  std::map<std::string, Value> variables = std::move(input.variables);
  for (const auto& [name, text] : special_tokens_) variables.emplace(name, Value(text));
  variables["messages"] = jinja::List(std::move(messages), context);
  variables["tools"] = std::move(input.tools);
  variables["documents"] = std::move(input.documents);
  variables["add_generation_prompt"] = Value(input.add_generation_prompt);
  return jinja::Render(statements_, std::move(variables), where_);
}

std::string ChatTemplate::Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
  jinja::Context context(where_);
  std::vector<Value> list;
  for (const ChatMessage& message : messages) {
    jinja::DictMaker dict(context);
    dict.Set(Value("role"), Value(message.role));
    dict.Set(Value("content"), Value(message.content));
    list.push_back(dict.Done());
  }
  ChatInput input;
  input.messages = jinja::List(std::move(list), context);
  input.add_generation_prompt = add_generation_prompt;
  return Render(std::move(input));
}

}  // namespace taipan
