#include "cli/output.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/logging.h"

namespace taipan {
namespace {

// errno of the first failure, after which nothing is written any more.
int output_error = 0;

}  // namespace

void OpenStandardStreams() {
  // For the wrong direction: reading and writing fail as they do on a closed descriptor.
  constexpr int kFlags[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    if (::open("/dev/null", kFlags[fd]) < 0) ::open("/", O_RDONLY | O_DIRECTORY);
  }
}

void Print(std::string_view text) {
  if (output_error == 0 && std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) output_error = errno;
}

void PrintJson(const OrderedJson& value) {
  Print(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  Print("\n");
}

bool OutputWorks() {
  if (output_error == 0 && std::fflush(stdout) != 0) output_error = errno;
  return output_error == 0;
}

void FlushOutput() {
  if (!OutputWorks()) {
    throw UserError("standard output", fmt::format("cannot be written: {}", std::strerror(output_error)));
  }
}

void Note(std::string_view line) { WriteText(stderr, fmt::format("{}\n", line)); }

std::string FormatTable(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (size_t c = 0; c < columns.size(); ++c) {
    width.push_back(columns[c].name.size());
    for (const auto& row : rows) width[c] = std::max(width[c], row.at(c).size());
  }
  std::string text;
  auto add_cell = [&](size_t c, const std::string& cell) {
    if (c > 0) text += "  ";
    text += columns[c].text ? fmt::format("{:<{}}", cell, width[c]) : fmt::format("{:>{}}", cell, width[c]);
    if (c + 1 < columns.size()) return;
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  };
  for (size_t c = 0; c < columns.size(); ++c) add_cell(c, columns[c].name);
  for (const auto& row : rows) {
    for (size_t c = 0; c < columns.size(); ++c) add_cell(c, row[c]);
  }
  return text;
}

std::string FormatExact(int64_t n) {
  std::string digits = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string FormatShares(const std::vector<double>& shares) {
  std::string text;
  for (const double share : shares) text += fmt::format("{}{:.3f}", text.empty() ? "" : " ", share);
  return text;
}

CountProgress::CountProgress(std::string what, int64_t total, std::string unit)
    : what_(std::move(what)), unit_(std::move(unit)), total_(total), start_(std::chrono::steady_clock::now()) {}

void CountProgress::Update(int64_t done) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  if (seconds < 1) return;
  const double rate = static_cast<double>(done) / seconds;
  std::vector<ProgressPart> parts = {
      {fmt::format("{} {}{} {}", what_, FormatExact(done), total_ > 0 ? " of " + FormatExact(total_) : "", unit_), 2},
      {fmt::format("{:.0f} {}/s", rate, unit_), 0}};
  if (total_ > 0) parts.push_back({FormatDuration(static_cast<double>(total_ - done) / rate) + " left", 1});
  line_.Update(parts);
}

void CountProgress::Finish() { line_.Finish(); }

}  // namespace taipan
