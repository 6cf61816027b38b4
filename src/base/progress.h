#pragma once
// What a person sees while something runs: one live line on stderr, and numbers in a readable form.

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace taipan {

// A piece of the line. Where the terminal is too narrow, those of least importance are left out.
struct ProgressPart {
  std::string text;
  int importance = 0;
};
// The parts in their order, two blanks between, of at most `columns` characters; never a part of a number.
std::string FitParts(const std::vector<ProgressPart>& parts, size_t columns);

// On a terminal the line is rewritten in place; elsewhere (a log file, a pipe) whole lines are printed, seldom.
class ProgressLine {
 public:
  struct Options {
    std::FILE* out = stderr;
    std::optional<bool> live;       // default: whether `out` is a terminal
    double live_interval = 0.1;     // least seconds between two drawings on a terminal
    double plain_interval = 10;     // least seconds between two lines elsewhere
    std::function<double()> clock;  // seconds; default: the steady clock
    std::optional<size_t> columns;  // of the terminal; default: as it says, 80 where it does not
  };
  ProgressLine() : ProgressLine(Options{}) {}
  explicit ProgressLine(Options options);
  ~ProgressLine();  // Finish
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Shows `line` if it is time to; the latest one is kept for Finish.
  void Update(const std::vector<ProgressPart>& parts);
  void Update(const std::string& line) { Update(std::vector<ProgressPart>{{line}}); }
  // Prints lines that stay, above the live line.
  void Print(const std::string& lines);
  // Shows the last line for good and ends it. Calling it again does nothing until the next Update.
  void Finish();

 private:
  void Put(const std::string& text) const;
  void Draw();
  Options options_;
  bool live_ = false;
  std::vector<ProgressPart> parts_;
  std::string line_;      // of all parts
  std::string shown_;     // the line_ that was drawn last
  double last_time_ = 0;  // of the last drawing
  bool ever_ = false;     // anything drawn yet
};

// "0.25s", "12.3s", "4m05s", "3h07m", "2d04h"; "?" for NaN, a negative number or infinity.
std::string FormatDuration(double seconds);
std::string FormatCount(int64_t n);      // "999", "1.2K", "34.5M", "1.3B", "2.0T": powers of 1000
std::string FormatBytes(int64_t bytes);  // "512 B", "1.5 KiB", "2.0 GiB": powers of 1024

}  // namespace taipan
