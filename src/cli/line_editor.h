#pragma once
// Lines that a user types, with editing and a history on a terminal (libedit); or lines of a pipe.

#include <memory>
#include <optional>
#include <string>

namespace taipan {

class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  bool on_terminal() const { return terminal_ != nullptr; }
  // The next line without its line feed; a line that ends with a backslash goes on in the next. On a terminal after
  // `prompt`, with `start`, of one line, to be edited. None at the end of the input, and where a signal is noted
  // meanwhile.
  std::optional<std::string> Read(const std::string& prompt, const std::string& start = "");

 private:
  struct Terminal;
  std::optional<std::string> ReadOne(const std::string& prompt, const std::string& start);
  std::optional<std::string> ReadFromPipe();

  std::unique_ptr<Terminal> terminal_;
  std::string rest_;  // of what a pipe gave
  bool ended_ = false;
};

}  // namespace taipan
