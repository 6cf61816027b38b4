#include "cli/loss_file.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/cpu.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/output.h"
#include "infer/scoring.h"

namespace taipan {
namespace {

constexpr const char* kHeader = "from,to,nll,tokens_per_second,resident_bytes\n";

// The last position of a row; none where it is no row.
std::optional<int64_t> EndOfRow(std::string_view line, bool json) {
  const std::string_view mark = json ? "\"to\":" : ",";
  const size_t at = line.find(mark);
  if (at == line.npos) return std::nullopt;
  int64_t to = 0;
  const char* const end = line.data() + line.size();
  const auto result = std::from_chars(line.data() + at + mark.size(), end, to);
  return result.ec == std::errc() ? std::optional(to) : std::nullopt;
}

// The rows of tokens before `position`.
std::string RowsBefore(const std::string& path, bool json, int64_t position) {
  std::string kept = json ? "" : kHeader;
  if (position == 0 || !PathExists(path)) return kept;
  const std::string old = ReadFile(path);
  for (size_t begin = 0, end; (end = old.find('\n', begin)) != old.npos; begin = end + 1) {
    const std::string_view line = std::string_view(old).substr(begin, end - begin);
    const std::optional<int64_t> to = EndOfRow(line, json);
    if (to && *to < position) kept += fmt::format("{}\n", line);
  }
  return kept;
}

}  // namespace

LossFile::LossFile(const std::string& path, int64_t every, int64_t position)
    : path_(path), json_(path.ends_with(".jsonl")), every_(every) {
  WriteFileAtomically(path, RowsBefore(path, json_, position));
  file_.reset(std::fopen(path.c_str(), "a"));
  if (file_ == nullptr) throw UserError(path, fmt::format("cannot be written: {}", std::strerror(errno)));
}

void LossFile::Add(int64_t first, std::span<const float> logprobs) {
  SumOfFinite(logprobs, first);
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const int64_t position = first + static_cast<int64_t>(i);
    if (waiting_) Take(waiting_->position, waiting_->logprob);
    waiting_ = Token{position, logprobs[i]};
  }
}

void LossFile::Take(int64_t position, float logprob) {
  if (from_ > to_) from_ = position;
  to_ = position;
  nll_ -= logprob;
  if ((position + 1) % every_ == 0) WriteRow();
}

void LossFile::WriteRow() {
  const double now = NowSeconds(), tokens = static_cast<double>(to_ - from_ + 1);
  const double nll = nll_ / tokens, rate = tokens / std::max(now - since_, 1e-9);
  const std::string row = json_ ? OrderedJson({{"from", from_},
                                               {"to", to_},
                                               {"nll", nll},
                                               {"tokens_per_second", rate},
                                               {"resident_bytes", ResidentBytes()}})
                                          .dump() +
                                      "\n"
                                : fmt::format("{},{},{:.6f},{:.1f},{}\n", from_, to_, nll, rate, ResidentBytes());
  if (std::fputs(row.c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0) {
    throw UserError(path_, fmt::format("cannot be written: {}", std::strerror(errno)));
  }
  from_ = to_ + 1;
  nll_ = 0;
  since_ = now;
}

void LossFile::Flush(int64_t position) {
  if (waiting_ && waiting_->position < position) {
    Take(waiting_->position, waiting_->logprob);
    waiting_.reset();
  }
  if (from_ <= to_) WriteRow();
}

}  // namespace taipan
