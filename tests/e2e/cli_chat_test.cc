// taipan chat, with lines from a pipe and on a terminal.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>

#include <nlohmann/json.hpp>

#include "e2e/chain_model.h"
#include "e2e/running.h"
#include "e2e/tiny_model.h"

namespace taipan {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

enum { kEnd = 256, kBot, kStop };

// Answers "hi" to everything, in a template whose ends of messages the model's files do not name.
class Greeter : public ChainModel {
 public:
  Greeter() : ChainModel({kBot, 'h', 'i', kEnd, 'x', 'y', 'z'}, {"<|end|>", "<|bot|>", "<|stop|>"}) {
    Write("tokenizer_config.json", R"({"chat_template": "{% for m in messages %})"
                                   R"({% if m.role == 'assistant' %}<|bot|>{% endif %}{{ m.content }}<|end|>)"
                                   R"({% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"})");
  }
};

ProgramResult Chat(const std::string& model, const std::string& lines, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"chat", model, "--temperature", "0", "--max-tokens", "20"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTaipan(arguments, lines);
}

TEST(Chat, AnswersEachLineAndReadsOnlyWhatIsNew) {
  const Greeter model;
  const ProgramResult result = Chat(model.path(), "a\n\nb\\\nc\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "hi\nhi\n");
  EXPECT_THAT(result.err, HasSubstr("reused 0 of 3 tokens (the cache is empty); read 3, "));
  EXPECT_THAT(result.err, HasSubstr("reused 6 of 11 tokens (it is new from token 6 on); read 5, "));
}

TEST(Chat, TheHistoryCanBeChanged) {
  const Greeter model;
  const TestFolder folder;
  const auto messages_after = [&](const std::string& lines) {
    const ProgramResult result =
        Chat(model.path(), lines + "/save " + (folder / "c.json") + "\n/quit\nnever\n", {"--system", "s"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::string all;
    for (const Json& message : Json::parse(ReadFile(folder / "c.json"))) {
      all += message.at("role").get<std::string>()[0] + (":" + message.at("content").get<std::string>() + " ");
    }
    return all;
  };
  EXPECT_EQ(messages_after("a\nb\n"), "s:s u:a a:hi u:b a:hi ");
  EXPECT_EQ(messages_after("a\nb\n/undo\n"), "s:s u:a a:hi ");
  EXPECT_EQ(messages_after("a\nb\n/undo\n/undo\n"), "s:s ");
  EXPECT_EQ(messages_after("a\nb\n/edit c d\n"), "s:s u:a a:hi u:c d a:hi ");
  EXPECT_EQ(messages_after("a\nb\n/edit 1 c\n"), "s:s u:c a:hi ");
  EXPECT_EQ(messages_after("a\n/regenerate\n"), "s:s u:a a:hi ");
  EXPECT_EQ(messages_after("//a\n"), "s:s u:/a a:hi ");
  WriteFileAtomically(folder / "d.json", R"([{"role": "user", "content": "q"}])");
  EXPECT_EQ(messages_after("a\n/load " + (folder / "d.json") + "\n"), "u:q a:hi ");
}

// An edit three messages back reads from there on.
TEST(Chat, AnEditReadsFromTheEdit) {
  const Greeter model;
  const ProgramResult result = Chat(model.path(), "a\nb\nc\n/edit 2 d\n/history\n");
  EXPECT_THAT(result.err, HasSubstr("reused 6 of 9 tokens (it is new from token 6 on); read 3, "));
  EXPECT_THAT(result.err, HasSubstr("1 user: a\nassistant: hi\n2 user: d\nassistant: hi\n"));
  EXPECT_EQ(result.out, "hi\nhi\nhi\nhi\n");
}

TEST(Chat, MistakesLeaveTheConversationAndFailAPipe) {
  const Greeter model;
  const ProgramResult result =
      Chat(model.path(), "/undo\n/edit\n/regenerate\n/load\n/load /none\n/saev x\na\n/edit 2 b\n/edit 1\n/history\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "hi\n");
  for (const char* part :
       {"/undo: there is no message", "/edit: there is no message", "/regenerate: there is no message to answer",
        "/load: no file is named", "/none: cannot open", "did you mean /save?",
        "/edit: no message of this number, expected 1 to 1, found 2", "/edit: no text", "1 user: a\nassistant: hi\n"}) {
    EXPECT_THAT(result.err, HasSubstr(part));
  }
}

TEST(Chat, TheCacheMayLieInAFolder) {
  const TinyModelFolder tiny;
  const std::string line = "Something that is said again, a little longer than a chunk\n";
  const ProgramResult first = Chat(tiny.model(), line, {"--cache", tiny / "cache"});
  EXPECT_THAT(first.err, HasSubstr("reused 0 of 58 tokens"));
  const ProgramResult again = Chat(tiny.model(), line, {"--cache", tiny / "cache"});
  EXPECT_THAT(again.err, HasSubstr("reused 58 of 58 tokens; read 0, "));
  EXPECT_EQ(again.out, first.out);
}

// A model without a template writes on. What a turn reads from the cache changes nothing.
TEST(Chat, ABaseModelGoesOnWithTheText) {
  const TinyModelFolder tiny;
  const ProgramResult chat = Chat(tiny.model(), "Hello there, this is a text of some length\nAnd more of it\n");
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_THAT(chat.err, HasSubstr("no chat template: it goes on with the text"));
  const auto generated = [&](const std::string& text) {
    WriteFileAtomically(tiny / "text", text);
    const ProgramResult result = RunTaipan({"generate", "-m", tiny.model(), "--prompt-file", tiny / "text", "--json",
                                            "--max-tokens", "20", "--temperature", "0"});
    return Json::parse(result.out).at("text").get<std::string>();
  };
  const auto line = [](const std::string& text) { return text.ends_with('\n') ? text : text + "\n"; };
  const std::string said = "Hello there, this is a text of some length";
  const std::string first = generated(said), so_far = said + first;
  EXPECT_EQ(chat.out, line(first) + line(generated(line(so_far) + "And more of it")));
}

TEST(Chat, ASignalEndsAPipe) {
  const TinyModelFolder tiny;
  for (const bool answering : {false, true}) {
    int pipe[2];
    CHECK_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    WriteFileAtomically(tiny / "err", "");
    Running run({"chat", tiny.model(), "--max-tokens", "1000000000", "--threads", "1"}, tiny / "err", tiny / "out",
                pipe[0]);
    while (ReadFile(tiny / "err").find("seed") == std::string::npos && !run.Ended()) ::usleep(1000);
    if (answering) {
      CHECK_EQ(::write(pipe[1], "Hello\n", 6), 6);
      while (ReadFile(tiny / "out").empty() && !run.Ended()) ::usleep(1000);
    } else {
      ::usleep(20000);  // until it waits for a line
    }
    run.Send(SIGINT);
    const int status = run.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGINT) << status << ReadFile(tiny / "err");
    EXPECT_EQ(ReadFile(tiny / "err").find("; stopped\n") != std::string::npos, answering);
    ::close(pipe[0]);
    ::close(pipe[1]);
  }
}

// The program on a terminal of its own.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "taipan");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    CHECK_GE(child_, 0);
    if (child_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::execv(TAIPAN_PROGRAM, argv.data());
    ::_exit(127);
  }
  ~Terminal() {
    if (child_ > 0) ::kill(child_, SIGKILL), Wait();
    ::close(terminal_);
  }
  void Type(const std::string& keys) const {
    CHECK_EQ(::write(terminal_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // Whether it shows that from here on, within ten seconds.
  bool Shows(const std::string& text) {
    for (;;) {
      const size_t at = shown_.find(text);
      if (at != shown_.npos) {
        shown_.erase(0, at + text.size());
        return true;
      }
      pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
      char piece[1024];
      if (::poll(&ready, 1, 10000) <= 0) return false;
      const ssize_t got = ::read(terminal_, piece, sizeof piece);
      if (got <= 0) return false;
      shown_.append(piece, static_cast<size_t>(got));
    }
  }
  int Wait() {  // ten seconds, then it is killed
    int status = 0;
    pid_t ended = 0;
    for (int i = 0; i < 10000 && ended == 0; ++i) {
      ended = ::waitpid(child_, &status, WNOHANG);
      if (ended == 0) ::usleep(1000);
    }
    if (ended == 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, &status, 0);
    }
    child_ = -1;
    return status;
  }
  const std::string& shown() const { return shown_; }

 private:
  pid_t child_ = -1;
  int terminal_ = -1;
  std::string shown_;
};

TEST(Chat, ATerminalHasLinesToEdit) {
  const Greeter model;
  const TestFolder folder;
  Terminal terminal({"chat", model.path(), "--temperature", "0", "--threads", "1"});
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("hellp\x7fo\r");  // backspace
  ASSERT_TRUE(terminal.Shows("hi\r\n")) << terminal.shown();
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("\x1b[A!\r");  // the line before, and more
  ASSERT_TRUE(terminal.Shows("hi\r\n")) << terminal.shown();
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("/edit 1\r");
  ASSERT_TRUE(terminal.Shows("edit> hello")) << terminal.shown();
  terminal.Type(" you\r");
  ASSERT_TRUE(terminal.Shows("hi\r\n")) << terminal.shown();
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("away with it\x03");
  ASSERT_TRUE(terminal.Shows("(/quit or Ctrl-D ends)")) << terminal.shown();
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("/save " + (folder / "c.json") + "\r");
  ASSERT_TRUE(terminal.Shows("2 messages")) << terminal.shown();
  ASSERT_TRUE(terminal.Shows("> ")) << terminal.shown();
  terminal.Type("\x04");
  terminal.Shows("nothing more");  // reads to the end
  EXPECT_EQ(terminal.Wait(), 0);
  EXPECT_EQ(Json::parse(ReadFile(folder / "c.json")).at(0).at("content"), "hello you");
}

}  // namespace
}  // namespace taipan
