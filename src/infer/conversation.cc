#include "infer/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/fields.h"

namespace taipan {

Conversation::Conversation(std::string model, const ModelText& text, const std::string& system)
    : model_(std::move(model)), text_(text) {
  if (!system.empty()) messages_.push_back({"system", system});
  if (!has_template() && !text_.no_chat_template.empty()) EncodeChat(model_, text_, {});  // says why
}

int64_t Conversation::count() const {
  return std::count_if(messages_.begin(), messages_.end(), [](const ChatMessage& m) { return m.role == "user"; });
}

size_t Conversation::IndexOf(int64_t number) const {
  CHECK(number >= 1 && number <= count());
  for (size_t i = 0;; ++i) {
    if (messages_[i].role == "user" && --number == 0) return i;
  }
}

const std::string& Conversation::Said(int64_t number) const { return messages_[IndexOf(number)].content; }

void Conversation::DropFrom(int64_t number) { messages_.resize(IndexOf(number)); }

bool Conversation::DropAnswer() {
  if (messages_.empty() || messages_.back().role != "assistant") return false;
  messages_.pop_back();
  return true;
}

// Each message of the user begins a line; an answer goes on where it ends.
std::vector<int32_t> Conversation::PlainText() const {
  std::string text;
  for (const ChatMessage& message : messages_) {
    const bool new_line = message.role != "assistant" && !text.empty() && !text.ends_with('\n');
    text += (new_line ? "\n" : "") + message.content;
  }
  return text_.tokenizer->Encode(text, {.add_special_tokens = true});
}

Conversation::Prompt Conversation::ToPrompt() const {
  Prompt prompt{.tokens = {}, .stop_tokens = text_.stop_tokens, .ends = {}};
  if (has_template()) {
    ChatPrompt chat = EncodeChat(model_, text_, messages_);
    prompt.tokens = std::move(chat.tokens);
    prompt.stop_tokens.insert(prompt.stop_tokens.end(), chat.stop_tokens.begin(), chat.stop_tokens.end());
  } else {
    prompt.tokens = PlainText();
  }
  for (size_t i = 0; i < prompt.tokens.size(); ++i) {
    const auto& stops = prompt.stop_tokens;
    if (std::count(stops.begin(), stops.end(), prompt.tokens[i]) > 0) {
      prompt.ends.push_back(static_cast<int64_t>(i) + 1);
    }
  }
  return prompt;
}

std::string Conversation::ToJson() const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages_) list.push_back({{"role", message.role}, {"content", message.content}});
  return list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void Conversation::ReadJson(const std::string& json, const std::string& where) {
  const Json list = ParseJson(json, where);
  const char* expected = R"([{"role": "user", "content": "..."}, ...])";
  if (!list.is_array()) throw UserError({where, "no list of messages", expected, DescribeJson(list)});
  std::vector<ChatMessage> messages;
  for (const Json& entry : list) {
    const auto text = [&](const char* key) {
      const bool there = entry.is_object() && entry.contains(key) && entry[key].is_string();
      if (there) return entry[key].get<std::string>();
      throw UserError({fmt::format("{}: message {}", where, messages.size() + 1),
                       fmt::format("has no {} that is a text", key), expected, DescribeJson(entry)});
    };
    messages.push_back({text("role"), text("content")});
  }
  messages_ = std::move(messages);
}

}  // namespace taipan
