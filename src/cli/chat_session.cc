#include "cli/chat_session.h"

#include <charconv>

#include "base/files.h"
#include "base/signals.h"
#include "cli/model_argument.h"
#include "cli/output.h"
#include "cli/text_output.h"

namespace taipan {
namespace {

constexpr const char* kHelp =
    "/undo            drop the last message and its answer\n"
    "/edit [N] TEXT   put TEXT in place of message N (the last) and go on from there; on a terminal without TEXT: edit "
    "it\n"
    "/regenerate      another answer to the last message\n"
    "/history         the messages with their numbers\n"
    "/save FILE       the conversation as JSON: [{\"role\", \"content\"}, ...]\n"
    "/load FILE       go on with that one\n"
    "/help            this\n"
    "/quit            end; so does the end of the input\n"
    "A line that ends with a backslash goes on in the next. //x sends /x. Ctrl-C stops an answer and keeps what there "
    "is.";

const std::vector<std::string> kCommands = {"/undo", "/edit", "/regenerate", "/history",
                                            "/save", "/load", "/help",       "/quit"};

std::string NeedsFile(const std::string& command, const std::string& file) {
  if (file.empty()) throw UserError({command, "no file is named", command + " FILE"});
  return file;
}

}  // namespace

ChatSession::ChatSession(const ChatFlags& flags, const LanguageModel& model, const ModelText& text, LineEditor& editor)
    : flags_(flags),
      model_(model),
      text_(text),
      editor_(editor),
      conversation_(flags.model, text, flags.system),
      cache_(model, {.memory_bytes = flags.cache_memory << 20, .folder = flags.cache}),
      generator_(model) {
  generator_.KeepTokens();
  generator_.StopWhen([] { return StopSignal() != 0; });
  if (!conversation_.has_template()) {
    Note("the model has no chat template: it goes on with the text that you and it write");
  }
}

void ChatSession::Close() {
  cache_.Flush();
  if (!cache_.folder_problem().empty()) Note("not kept for later: " + cache_.folder_problem());
}

bool ChatSession::Take(const std::string& line) {
  const Conversation before = conversation_;
  try {
    return TakeLine(line);
  } catch (...) {
    conversation_.Restore(before);
    throw;
  }
}

bool ChatSession::TakeLine(const std::string& line) {
  if (line.find_first_not_of(" \t") == line.npos) return true;
  if (line[0] != '/' || line.starts_with("//")) {
    Say(line[0] == '/' ? line.substr(1) : line);
    return true;
  }
  const size_t space = line.find(' ');
  const size_t rest = space == line.npos ? line.npos : line.find_first_not_of(' ', space);
  return Command(line.substr(0, space), rest == line.npos ? "" : line.substr(rest));
}

bool ChatSession::Command(const std::string& name, const std::string& rest) {
  if (name == "/quit") return false;
  if (name == "/help") {
    Note(kHelp);
  } else if (name == "/undo") {
    Undo();
  } else if (name == "/edit") {
    Edit(rest);
  } else if (name == "/regenerate") {
    Regenerate();
  } else if (name == "/history") {
    ShowHistory();
  } else if (name == "/save") {
    Save(NeedsFile(name, rest));
  } else if (name == "/load") {
    Load(NeedsFile(name, rest));
  } else {
    const std::string nearest = NearestName(name, kCommands);
    throw UserError({.where = name,
                     .problem = "no such command",
                     .hint = nearest.empty() ? "/help lists them; //x sends /x" : "did you mean " + nearest + "?"});
  }
  return true;
}

void ChatSession::Say(const std::string& text) {
  conversation_.Say(text);
  Turn();
}

void ChatSession::Undo() {
  const int64_t count = conversation_.count();
  if (count == 0) throw UserError({.where = "/undo", .problem = "there is no message"});
  conversation_.DropFrom(count);
  Note(fmt::format("undone; {} messages are left", conversation_.messages().size()));
}

void ChatSession::Edit(const std::string& rest) {
  const int64_t count = conversation_.count();
  if (count == 0) throw UserError({.where = "/edit", .problem = "there is no message"});
  int64_t number = count;
  std::string text = rest;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  const size_t digits = static_cast<size_t>(end - rest.data());
  if (error == std::errc() && (digits == rest.size() || rest[digits] == ' ')) {
    text = rest.substr(std::min(rest.size(), digits + 1));
  } else {
    number = count;
  }
  if (number < 1 || number > count) {
    throw UserError({"/edit", "no message of this number", fmt::format("1 to {}", count), std::to_string(number)});
  }
  if (text.empty() && editor_.on_terminal()) {
    const std::string& said = conversation_.Said(number);
    if (said.find('\n') != said.npos) {
      throw UserError({"/edit", "the message has several lines", "/edit [N] TEXT"});
    }
    text = editor_.Read("edit> ", said).value_or("");
  }
  if (text.empty()) throw UserError({"/edit", "no text", "/edit [N] TEXT"});
  conversation_.DropFrom(number);
  Say(text);
}

void ChatSession::Regenerate() {
  conversation_.DropAnswer();
  if (!conversation_.awaits_answer()) {
    throw UserError({.where = "/regenerate", .problem = "there is no message to answer"});
  }
  ++again_;
  if (flags_.sampling.options.temperature == 0) Note("--temperature 0: the answer is the same");
  Turn();
}

void ChatSession::Load(const std::string& file) {
  conversation_.ReadJson(ReadFile(file), file);
  Note(fmt::format("{}: {} messages", file, conversation_.messages().size()));
  if (conversation_.awaits_answer()) Turn();
}

void ChatSession::Save(const std::string& file) const {
  WriteFileAtomically(file, conversation_.ToJson());
  Note(fmt::format("{}: {} messages", file, conversation_.messages().size()));
}

void ChatSession::ShowHistory() const {
  int64_t number = 0;
  for (const ChatMessage& message : conversation_.messages()) {
    const bool user = message.role == "user";
    number += user ? 1 : 0;
    Note(fmt::format("{}{}: {}", user ? fmt::format("{} ", number) : "", message.role, message.content));
  }
}

GenerationStats ChatSession::Write(const Conversation::Prompt& prompt, std::string& answer) {
  GenerationOptions options{.sampling = flags_.sampling.options,
                            .max_tokens = flags_.max_tokens,
                            .stop_tokens = prompt.stop_tokens,
                            .vocab_limit = text_.tokenizer->vocab_size()};
  options.sampling.seed += again_;
  const bool goes_on = !conversation_.has_template() && !prompt.tokens.empty();
  TextOutput output(*text_.tokenizer, goes_on ? std::optional(prompt.tokens.back()) : std::nullopt,
                    {.show = true, .keep = true, .end_line = true, .stop = flags_.stop});
  const GenerationStats stats =
      generator_.Generate(options, [&](int32_t token) { return output.Add(token) && OutputWorks(); });
  output.Finish(stats.stop_token);
  answer = output.text();
  return stats;
}

// The model's answer to what was said. A signal keeps what there is of it.
void ChatSession::Turn() {
  const Conversation::Prompt prompt = conversation_.ToPrompt();
  NoteLongContext(model_.config(), static_cast<int64_t>(prompt.tokens.size()) + flags_.max_tokens,
                  "conversation and --max-tokens make");
  CountProgress progress("reading:", static_cast<int64_t>(prompt.tokens.size()));
  const PrefixUse use =
      cache_.Read(prompt.tokens, prompt.ends, generator_, [&](int64_t done) { progress.Update(done); });
  progress.Finish();
  if (!use.complete) return Note("stopped before the answer");
  std::string answer;
  const GenerationStats stats = Write(prompt, answer);
  conversation_.Answer(answer);
  cache_.Keep(generator_);
  std::string line = fmt::format("reused {} of {} tokens", FormatExact(use.reused), FormatExact(use.tokens));
  if (!use.reason.empty()) line += fmt::format(" ({})", use.reason);
  line += fmt::format("; read {}, {:.1f} tokens/s; wrote {}, {:.1f} tokens/s", FormatExact(stats.prompt_tokens),
                      stats.prompt_tokens_per_second(), FormatExact(stats.generated_tokens),
                      stats.generated_tokens_per_second());
  if (stats.stop_reason == StopReason::kMaxTokens) line += "; cut by --max-tokens";
  if (stats.stop_reason == StopReason::kStopped) line += "; stopped";
  Note(line);
}

}  // namespace taipan
