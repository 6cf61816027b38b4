#include "cli/generate_prompt.h"

#include <algorithm>

#include "base/error.h"
#include "base/signals.h"
#include "cli/input_bytes.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "infer/chat.h"
#include "infer/text_feed.h"

namespace taipan {
namespace {

// Feeds a text to the generator. Returns its last token, after which the text goes on.
std::optional<int32_t> ReadTokens(const std::vector<int32_t>& tokens, Generator& generator) {
  generator.Read(tokens);
  return tokens.empty() ? std::nullopt : std::optional(tokens.back());
}

constexpr size_t kSlice = size_t{1} << 14;  // bytes

// Feeds a file to the generator, in slices, never held whole.
std::optional<int32_t> ReadPromptFile(const PromptFlags& flags, const Tokenizer& tokenizer, Generator& generator) {
  TextFeed feed(tokenizer, {.add_special_tokens = flags.resume || generator.state().position == 0}, generator);
  if (flags.resume) feed.SkipRead();
  InputBytes input(flags.prompt_file);
  CountProgress progress("prompt:", 0);
  const int64_t size = RegularFileBytes(flags.prompt_file);
  int64_t bytes = 0;
  for (bool more = true; more && StopSignal() == 0;) {
    const std::string slice = input.Next(kSlice);
    if (slice.empty()) break;
    more = feed.Append(slice);
    bytes += static_cast<int64_t>(slice.size());
    const double share = static_cast<double>(bytes) / static_cast<double>(std::max(size, bytes));
    if (size > 0) progress.Expect(static_cast<int64_t>(static_cast<double>(feed.tokens()) / share));
    progress.Update(feed.tokens());
    if (flags.on_progress) flags.on_progress();
  }
  if (StopSignal() == 0) {
    feed.Finish(InputName(flags.prompt_file));
    progress.Expect(feed.tokens());
    progress.Update(feed.tokens());
  }
  progress.Finish();
  NoteDoubledBos(tokenizer, feed.opening());
  return feed.last();
}

// A model needs a token to go on from.
void ReadStartToken(const Tokenizer& tokenizer, Generator& generator) {
  if (const auto bos = tokenizer.bos()) {
    Note(fmt::format("empty prompt: starting from the token {} (BOS)", *bos));
    generator.Read({&*bos, 1});
    return;
  }
  Note("empty prompt: starting from a line feed");
  generator.Read(tokenizer.Encode("\n"));
}

// The prompt as a message of a user, in the words that the model was trained to answer.
ChatPrompt ReadMessages(const PromptFlags& flags, const ModelText& text) {
  std::vector<ChatMessage> messages;
  if (!flags.system.empty()) messages.push_back({"system", flags.system});
  const std::string prompt = flags.prompt_file.empty() ? flags.prompt : ReadInput(flags.prompt_file);
  messages.push_back({"user", prompt});
  return EncodeChat(flags.model, text, messages);
}

}  // namespace

int64_t CountPromptTokens(const PromptFlags& flags, const Tokenizer& tokenizer) {
  EncodeStream stream(tokenizer);
  if (flags.prompt_file.empty()) return static_cast<int64_t>(tokenizer.Encode(flags.prompt).size());
  if (RegularFileBytes(flags.prompt_file) == 0) return 0;
  InputBytes input(flags.prompt_file);
  size_t tokens = 0;
  for (std::string slice = input.Next(kSlice); !slice.empty(); slice = input.Next(kSlice)) {
    tokens += stream.Append(slice).size();
  }
  return static_cast<int64_t>(tokens + stream.Finish().size());
}

std::optional<int32_t> ReadPrompt(const PromptFlags& flags, ModelText& text, Generator& generator,
                                  const std::function<void()>& note_signals) {
  const Tokenizer& tokenizer = *text.tokenizer;
  std::optional<int32_t> last;
  if (flags.chat) {
    const ChatPrompt chat = ReadMessages(flags, text);
    note_signals();
    NoteDoubledBos(tokenizer, chat.tokens);
    generator.Read(chat.tokens);
    text.stop_tokens.insert(text.stop_tokens.end(), chat.stop_tokens.begin(), chat.stop_tokens.end());
    return last;
  }
  note_signals();
  if (!flags.prompt_file.empty()) {
    last = ReadPromptFile(flags, tokenizer, generator);
  } else {
    const EncodeOptions options{.add_special_tokens = generator.state().position == 0,
                                .parse_special = flags.parse_special};
    const std::vector<int32_t> tokens = tokenizer.Encode(flags.prompt, options);
    NoteDoubledBos(tokenizer, tokens);
    last = ReadTokens(tokens, generator);
  }
  if (generator.state().position == 0 && StopSignal() == 0) ReadStartToken(tokenizer, generator);
  return last;
}

}  // namespace taipan
