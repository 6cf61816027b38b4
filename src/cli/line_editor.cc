#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "base/error.h"
#include "base/signals.h"

namespace taipan {
namespace {

// Whether there is something to read; false where a signal is noted first. A signal comes to another thread and would
// not end a read.
bool WaitForInput() {
  constexpr int kWait = 50;  // milliseconds
  while (StopSignal() == 0) {
    pollfd ready{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kWait) > 0) return true;
  }
  return false;
}

// libedit's source of characters: 1, 0 at the end, -1 after a signal.
int ReadCharacter(EditLine*, wchar_t* to) {
  std::mbstate_t state{};
  for (;;) {
    if (!WaitForInput()) return -1;
    char byte = 0;
    const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return static_cast<int>(got);
    const size_t used = std::mbrtowc(to, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;  // more bytes of this character follow
    if (used != static_cast<size_t>(-1)) return 1;
    state = {};  // no character: the next one
  }
}

}  // namespace

struct LineEditor::Terminal {
  EditLine* line = el_init("taipan", stdin, stderr, stderr);
  History* history = history_init();
  HistEvent event{};
  std::string prompt;

  Terminal() {
    constexpr int kMostLines = 1000;
    CHECK(line != nullptr && history != nullptr);
    ::history(history, &event, H_SETSIZE, kMostLines);
    el_set(line, EL_CLIENTDATA, this);
    el_set(
        line, EL_PROMPT, +[](EditLine* of) {
          Terminal* self = nullptr;
          el_get(of, EL_CLIENTDATA, &self);
          return self->prompt.data();
        });
    el_set(line, EL_HIST, ::history, history);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_GETCFN, ReadCharacter);
    el_source(line, nullptr);  // the user's ~/.editrc
  }
  ~Terminal() {
    el_end(line);
    history_end(history);
  }
  std::optional<std::string> Read(const std::string& with_prompt, const std::string& start) {
    prompt = with_prompt;
    if (!start.empty()) el_push(line, start.c_str());
    int count = 0;
    el_set(line, EL_PREP_TERM, 1);  // before the prompt is there: Ctrl-D is lost where the mode changes after it
    const char* const typed = el_gets(line, &count);
    if (typed == nullptr || count <= 0) {
      std::fputs("\n", stderr);
      return std::nullopt;
    }
    std::string text(typed, static_cast<size_t>(count));
    if (text.ends_with('\n')) text.pop_back();
    if (!text.empty()) ::history(history, &event, H_ENTER, text.c_str());
    return text;
  }
};

LineEditor::LineEditor() {
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDERR_FILENO) == 0) return;
  std::setlocale(LC_CTYPE, "");  // characters of more than one byte
  terminal_ = std::make_unique<Terminal>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::ReadFromPipe() {
  for (;;) {
    const size_t end = rest_.find('\n');
    if (end != rest_.npos || (ended_ && !rest_.empty())) {
      std::string line = rest_.substr(0, end);
      rest_.erase(0, end == rest_.npos ? rest_.size() : end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    if (ended_ || !WaitForInput()) return std::nullopt;
    char piece[4096];
    const ssize_t got = ::read(STDIN_FILENO, piece, sizeof piece);
    if (got < 0 && errno == EINTR) continue;
    ended_ = got <= 0;
    if (got > 0) rest_.append(piece, static_cast<size_t>(got));
  }
}

std::optional<std::string> LineEditor::ReadOne(const std::string& prompt, const std::string& start) {
  return terminal_ ? terminal_->Read(prompt, start) : ReadFromPipe();
}

std::optional<std::string> LineEditor::Read(const std::string& prompt, const std::string& start) {
  std::optional<std::string> line = ReadOne(prompt, start);
  while (line && line->ends_with('\\')) {
    line->back() = '\n';
    const std::optional<std::string> more = ReadOne(". ", "");
    if (!more) return StopSignal() != 0 ? std::nullopt : line;
    *line += *more;
  }
  return line;
}

}  // namespace taipan
