#pragma once
// What a person sees while something runs: one live line on stderr, and numbers in a readable form.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

namespace taipan {

// On a terminal the line is rewritten in place; elsewhere (a log file, a pipe) whole lines are printed, seldom.
class ProgressLine {
 public:
  struct Options {
    std::FILE* out = stderr;
    std::optional<bool> live;       // default: whether `out` is a terminal
    double live_interval = 0.1;     // least seconds between two drawings on a terminal
    double plain_interval = 10;     // least seconds between two lines elsewhere
    std::function<double()> clock;  // seconds; default: the steady clock
  };
  ProgressLine() : ProgressLine(Options{}) {}
  explicit ProgressLine(Options options);
  ~ProgressLine();  // Finish
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Shows `line` if it is time to; the latest one is kept for Finish.
  void Update(const std::string& line);
  // Prints lines that stay, above the live line.
  void Print(const std::string& lines);
  // Shows the last line for good and ends it. Calling it again does nothing until the next Update.
  void Finish();

 private:
  void Put(const std::string& text) const;
  void Draw();
  Options options_;
  bool live_ = false;
  std::string line_;
  std::string shown_;     // what was printed last of line_
  double last_time_ = 0;  // of the last drawing
  bool ever_ = false;     // anything drawn yet
};

// "0.25s", "12.3s", "4m05s", "3h07m", "2d04h"; "?" for NaN, a negative number or infinity.
std::string FormatDuration(double seconds);
std::string FormatCount(int64_t n);      // "999", "1.2K", "34.5M", "1.3B", "2.0T": powers of 1000
std::string FormatBytes(int64_t bytes);  // "512 B", "1.5 KiB", "2.0 GiB": powers of 1024

}  // namespace taipan
