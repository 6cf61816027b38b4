#include "infer/chat.h"

#include "base/error.h"

namespace taipan {
namespace {

// The token behind an answer, by the template's own word: that of a conversation whose last message is one.
std::vector<int32_t> EndTokens(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  static const std::string kAnswer = "taipan-answer";
  std::string rendered;
  try {
    rendered = chat.Render({{"user", "a"}, {"assistant", kAnswer}}, /*add_generation_prompt=*/false);
  } catch (const UserError&) {
    return {};  // it takes no answers, or not these
  }
  const size_t answer = rendered.rfind(kAnswer);
  if (answer == rendered.npos) return {};
  const size_t behind = rendered.find_first_not_of(" \t\r\n", answer + kAnswer.size());
  if (behind == rendered.npos) return {};
  const std::vector<int32_t> ids = tokenizer.Encode(rendered.substr(behind), {.parse_special = true});
  if (ids.empty() || !tokenizer.IsAdded(ids.front())) return {};
  return {ids.front()};
}

}  // namespace

ChatPrompt EncodeChat(const std::string& model, const ModelText& text, const std::vector<ChatMessage>& messages) {
  if (text.chat_template.empty()) {
    const bool none = text.no_chat_template.empty();
    throw UserError({none ? model : text.chat_template_file,
                     none ? "the model has no chat template" : text.no_chat_template,
                     none ? "one in tokenizer_config.json, or a GGUF key" : "a template named default",
                     none ? "none" : "", "leave --chat away to continue a text"});
  }
  const ChatTemplate chat(text.chat_template, text.chat_template_file, text.special_tokens);
  return {.tokens = text.tokenizer->Encode(chat.Render(messages, /*add_generation_prompt=*/true),
                                           {.add_special_tokens = false, .parse_special = true}),
          .stop_tokens = EndTokens(chat, *text.tokenizer)};
}

}  // namespace taipan
