#include "cli/output.h"

#include <fmt/format.h>
#include <sys/resource.h>

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

std::string FormatCount(int64_t n) {
  std::string digits = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string FormatBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.4g} {}", bytes, kUnits[unit]);
}

std::string FormatShares(const std::vector<double>& shares) {
  std::string text;
  for (const double share : shares) text += fmt::format("{}{:.3f}", text.empty() ? "" : " ", share);
  return text;
}

void AddThreadsFlag(CLI::App& command) {
  command
      .add_option_function<int>("--threads", [](int n) { SetNumThreads(n); },
                                fmt::format("CPU threads (default {}: OMP_NUM_THREADS if set, else the CPUs this process "
                                            "may use)", DefaultNumThreads()))
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
}

void AddJsonFlag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON alone on standard output");
}

int64_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;  // Linux counts KiB
}

}  // namespace taipan
