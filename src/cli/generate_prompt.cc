#include "cli/generate_prompt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/signals.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/token_lines.h"
#include "infer/chat.h"

namespace taipan {
namespace {

// Bytes of a file or of standard input, which may be long in coming: a signal that is noted ends the wait.
class InputBytes {
 public:
  explicit InputBytes(const std::string& path) : path_(path) {
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw UserError(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  }
  ~InputBytes() {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  InputBytes(const InputBytes&) = delete;
  InputBytes& operator=(const InputBytes&) = delete;

  // As many as asked for; fewer at the end and after a signal.
  std::string Next(size_t bytes) {
    std::string slice(bytes, '\0');
    size_t have = 0;
    while (have < bytes && StopSignal() == 0) {
      constexpr int kWait = 100;  // milliseconds
      pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, kWait) == 0) continue;
      const ssize_t got = ::read(fd_, slice.data() + have, bytes - have);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw UserError(path_, fmt::format("cannot be read: {}", std::strerror(errno)));
      if (got == 0) break;
      have += static_cast<size_t>(got);
    }
    slice.resize(have);
    return slice;
  }

  std::string All() {
    constexpr size_t kSlice = size_t{1} << 20;
    std::string text;
    for (;;) {
      const std::string slice = Next(kSlice);
      text += slice;
      if (slice.size() < kSlice) return text;
    }
  }

 private:
  const std::string path_;
  int fd_ = -1;
};

// Feeds a text to the generator. Returns its last token, after which the text goes on.
std::optional<int32_t> ReadTokens(const std::vector<int32_t>& tokens, Generator& generator) {
  generator.Read(tokens);
  return tokens.empty() ? std::nullopt : std::optional(tokens.back());
}

// Feeds a file to the generator. Bytes can be cut anywhere, so their file is read in slices and never held whole; other
// tokenizers need the whole text.
std::optional<int32_t> ReadPromptFile(const std::string& path, const Tokenizer& tokenizer, Generator& generator) {
  const EncodeOptions options{.add_special_tokens = generator.state().position == 0};
  InputBytes input(path);
  if (dynamic_cast<const ByteTokenizer*>(&tokenizer) == nullptr) {
    return ReadTokens(tokenizer.Encode(input.All(), options), generator);
  }
  CountProgress progress("prompt:", 0);
  int64_t done = 0;
  while (StopSignal() == 0) {
    const std::string bytes = input.Next(static_cast<size_t>(16 * generator.piece()));  // ends on the grid of pieces
    if (bytes.empty()) break;
    generator.Read(tokenizer.Encode(bytes), [&](int64_t read) { progress.Update(done + read); });
    done += static_cast<int64_t>(bytes.size());
  }
  progress.Finish();
  return std::nullopt;
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
    last = ReadPromptFile(flags.prompt_file, tokenizer, generator);
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
