#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/logging.h"

namespace taipan {
namespace {

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

size_t TerminalColumns(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// Characters of UTF-8 text.
size_t CountColumns(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

// The words that fit into `columns` characters: a line that wraps could not be overwritten.
std::string CutToColumns(const std::string& text, size_t columns) {
  if (CountColumns(text) <= columns) return text;
  std::string cut;
  for (size_t blank = 0; (blank = text.find(' ', blank + 1)) != text.npos;) {
    if (CountColumns(text.substr(0, blank)) > columns) break;
    cut = text.substr(0, blank);
  }
  return cut;
}

std::string Join(const std::vector<ProgressPart>& parts) {
  std::string line;
  for (const ProgressPart& part : parts) line += (line.empty() ? "" : "  ") + part.text;
  return line;
}

// A value with a unit: the largest unit that leaves at least 1, rounded first, so that 999 960 is 1.0M and not 1000.0K.
std::string WithUnit(double value, double base, const char* const* units, int count) {
  int unit = 0;
  while (unit + 1 < count && std::abs(std::round(value * 10) / 10) >= base) {
    value /= base;
    ++unit;
  }
  return fmt::format("{:.1f}{}", value, units[unit]);
}

}  // namespace

std::string FitParts(const std::vector<ProgressPart>& parts, size_t columns) {
  std::vector<ProgressPart> left = parts;
  while (left.size() > 1 && CountColumns(Join(left)) > columns) {
    // The last of equal ones goes first.
    const auto least = std::min_element(left.rbegin(), left.rend(),
                                        [](const auto& a, const auto& b) { return a.importance < b.importance; });
    left.erase(std::next(least).base());
  }
  return CutToColumns(Join(left), columns);
}

ProgressLine::ProgressLine(Options options) : options_(std::move(options)) {
  live_ = options_.live.value_or(::isatty(::fileno(options_.out)) == 1);
  if (!options_.clock) options_.clock = SteadySeconds;
}

ProgressLine::~ProgressLine() { Finish(); }

void ProgressLine::Put(const std::string& text) const { WriteText(options_.out, text); }

void ProgressLine::Draw() {
  if (live_) {
    const size_t columns = options_.columns.value_or(TerminalColumns(options_.out));
    Put(fmt::format("\r{}\x1b[K", columns > 1 ? FitParts(parts_, columns - 1) : line_));
  } else {
    Put(line_ + "\n");
  }
  shown_ = line_;
  last_time_ = options_.clock();
  ever_ = true;
}

void ProgressLine::Update(const std::vector<ProgressPart>& parts) {
  parts_ = parts;
  line_ = Join(parts);
  const double interval = live_ ? options_.live_interval : options_.plain_interval;
  if (!ever_ || options_.clock() - last_time_ >= interval) Draw();
}

void ProgressLine::Print(const std::string& lines) {
  const std::string newline = lines.ends_with('\n') ? "" : "\n";
  if (live_) {
    Put("\r\x1b[K" + lines + newline);
    if (!line_.empty()) Draw();
  } else {
    Put(lines + newline);
  }
}

void ProgressLine::Finish() {
  if (line_.empty()) return;
  if (shown_ != line_) Draw();
  if (live_) Put("\n");
  line_.clear();
  shown_.clear();
  ever_ = false;
}

std::string FormatDuration(double seconds) {
  if (!(seconds >= 0) || std::isinf(seconds)) return "?";
  if (seconds < 0.995) return fmt::format("{:.2f}s", seconds);
  if (seconds < 59.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<int64_t>(std::min(std::round(seconds), 1e15));
  if (whole < 3600) return fmt::format("{}m{:02d}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{:02d}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d{:02d}h", whole / 86400, whole / 3600 % 24);
}

std::string FormatCount(int64_t n) {
  static constexpr const char* kUnits[] = {"", "K", "M", "B", "T"};
  if (n > -1000 && n < 1000) return std::to_string(n);
  return WithUnit(static_cast<double>(n), 1000, kUnits, 5);
}

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {" B", " KiB", " MiB", " GiB", " TiB"};
  if (bytes > -1024 && bytes < 1024) return fmt::format("{} B", bytes);
  return WithUnit(static_cast<double>(bytes), 1024, kUnits, 5);
}

}  // namespace taipan
