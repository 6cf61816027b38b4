#pragma once
// The prompt of `taipan generate`: from a flag, a file or standard input, as a text or as a message to a chat model.

#include <functional>
#include <optional>
#include <string>

#include "infer/generator.h"
#include "infer/model_text.h"

namespace taipan {

struct PromptFlags {
  std::string model;  // for messages
  std::string prompt, prompt_file, system;
  bool chat = false, parse_special = false;
  bool resume = false;                          // prompt_file is the whole text, its beginning was read
  std::function<void()> on_progress = nullptr;  // after some pieces of prompt_file
};

// Tokens of the prompt, without the template of a chat; 0 for what cannot be read twice.
int64_t CountPromptTokens(const PromptFlags& flags, const Tokenizer& tokenizer);

// Reads it behind what the generator has read already, such as a restored state, to which BOS is not added again; an
// empty sequence gets a token to start from. From its first read on signals are noted (NoteStopSignals must not live
// yet); one ends it early. Returns the token after which the output goes on as the same text: an answer is a text of
// its own. With `chat` the template's end of an answer is added to the stop tokens.
std::optional<int32_t> ReadPrompt(const PromptFlags& flags, ModelText& text, Generator& generator,
                                  const std::function<void()>& note_signals);

}  // namespace taipan
