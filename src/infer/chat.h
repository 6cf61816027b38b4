#pragma once
// Messages to a model in the words of its chat template.

#include <string>
#include <vector>

#include "infer/model_text.h"
#include "text/chat_template.h"

namespace taipan {

struct ChatPrompt {
  std::vector<int32_t> tokens;       // up to where the answer begins
  std::vector<int32_t> stop_tokens;  // what the template puts behind an answer, where that is a token
};
// UserError naming `model` where the files have no chat template or none that can be used.
ChatPrompt EncodeChat(const std::string& model, const ModelText& text, const std::vector<ChatMessage>& messages);

}  // namespace taipan
