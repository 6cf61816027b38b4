#include "cli/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"

namespace taipan {
namespace {

[[noreturn]] void OutputFailed() {
  throw UserError("standard output", fmt::format("cannot be written: {}", std::strerror(errno)));
}

bool IsNumber(const std::string& cell) {
  return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell[0])) || cell[0] == '-' || cell[0] == '.');
}

}  // namespace

void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) OutputFailed();
}

void PrintJson(const OrderedJson& value) {
  Print(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  Print("\n");
}

void FlushOutput() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) OutputFailed();
}

void Note(std::string_view line) { fmt::print(stderr, "{}\n", line); }

std::string FormatTable(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width(header.size());
  for (size_t c = 0; c < header.size(); ++c) {
    width[c] = header[c].size();
    for (const auto& row : rows) width[c] = std::max(width[c], row.at(c).size());
  }
  std::string text;
  auto add_line = [&](const std::vector<std::string>& cells, const std::vector<std::string>& like) {
    std::string line;
    for (size_t c = 0; c < cells.size(); ++c) {
      if (c > 0) line += "  ";
      line += IsNumber(like[c]) ? fmt::format("{:>{}}", cells[c], width[c]) : fmt::format("{:<{}}", cells[c], width[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line(header, rows.empty() ? header : rows.front());
  for (const auto& row : rows) add_line(row, row);
  return text;
}

std::string FormatExact(int64_t n) {
  std::string digits = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string FormatShares(const std::vector<double>& shares) {
  std::string text;
  for (const double share : shares) text += fmt::format("{}{:.3f}", text.empty() ? "" : " ", share);
  return text;
}

void AddThreadsFlag(CLI::App& command) {
  command
      .add_option_function<int>(
          "--threads", [](int n) { SetNumThreads(n); },
          fmt::format("CPU threads (default {}: OMP_NUM_THREADS if set, else the CPUs this process "
                      "may use)",
                      DefaultNumThreads()))
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON alone on standard output");
}

CountProgress::CountProgress(std::string what, int64_t total)
    : what_(std::move(what)), total_(total), start_(std::chrono::steady_clock::now()) {}

void CountProgress::Update(int64_t done) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  if (seconds < 1) return;
  const double rate = static_cast<double>(done) / seconds;
  std::string text = fmt::format("{} {}", what_, FormatExact(done));
  if (total_ > 0) text += " of " + FormatExact(total_);
  text += fmt::format(" tokens, {:.0f} tokens/s", rate);
  if (total_ > 0) text += fmt::format(", {} left", FormatDuration(static_cast<double>(total_ - done) / rate));
  line_.Update(text);
}

void CountProgress::Finish() { line_.Finish(); }

}  // namespace taipan
