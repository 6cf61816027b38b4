#pragma once
// A conversation with a chat model: its messages, what may be done to them, and the tokens that they are to the model.
// A model without a chat template goes on with the text that the messages make together.

#include <optional>
#include <string>
#include <vector>

#include "infer/chat.h"

namespace taipan {

class Conversation {
 public:
  // `model` names it in errors. UserError where the files have a chat template that cannot be used.
  Conversation(std::string model, const ModelText& text, const std::string& system);

  bool has_template() const { return !text_.chat_template.empty(); }
  const std::vector<ChatMessage>& messages() const { return messages_; }
  // Of the user's messages, by their numbers from 1 on.
  int64_t count() const;
  const std::string& Said(int64_t number) const;
  bool awaits_answer() const { return !messages_.empty() && messages_.back().role == "user"; }

  void Say(const std::string& text) { messages_.push_back({"user", text}); }
  void Answer(const std::string& text) { messages_.push_back({"assistant", text}); }
  void Restore(const Conversation& before) { messages_ = before.messages_; }
  // Drops the user's message of this number and everything after it.
  void DropFrom(int64_t number);
  // Drops an answer at the end; false where there is none.
  bool DropAnswer();

  // What the model reads before it answers.
  struct Prompt {
    std::vector<int32_t> tokens;
    std::vector<int32_t> stop_tokens;  // each ends an answer
    std::vector<int64_t> ends;         // positions behind messages
  };
  Prompt ToPrompt() const;

  // A JSON list of {"role", "content"}.
  std::string ToJson() const;
  void ReadJson(const std::string& json, const std::string& where);

 private:
  size_t IndexOf(int64_t number) const;
  std::vector<int32_t> PlainText() const;

  const std::string model_;
  const ModelText& text_;
  std::vector<ChatMessage> messages_;
};

}  // namespace taipan
