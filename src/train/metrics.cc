#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "base/files.h"
#include "base/write_faults.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;

double NumberIn(const OrderedJson& line, const char* key) {
  const auto number = line.find(key);
  return number != line.end() && number->is_number() ? number->get<double>() : std::nan("");
}

// One parsed line into the history. False: a line of neither kind.
bool AddLine(const OrderedJson& line, MetricsHistory& history) {
  if (line.contains("valid_ce")) {
    ValidMetrics m;
    m.step = line.at("step").get<int64_t>();
    m.ce = line.at("valid_ce").get<double>();
    m.selected_share = line.value("valid_selected_share", std::vector<double>());
    history.Add(m);
    return true;
  }
  if (line.contains("layers")) return true;
  if (!line.contains("ce")) return false;
  StepMetrics m;
  m.step = line.at("step").get<int64_t>();
  if (line.at("ce").is_null()) return true;
  m.ce = line.at("ce").get<double>();
  m.grad_norm = NumberIn(line, "grad_norm");
  m.lr = NumberIn(line, "lr");
  m.tokens_per_second = NumberIn(line, "tokens_per_second");
  m.selected_share = line.at("selected_share").get<std::vector<double>>();
  history.Add(m);
  return true;
}

}  // namespace

std::string ToJsonLine(const StepMetrics& m) {
  OrderedJson line = {{"step", m.step},
                      {"loss", m.loss},
                      {"ce", m.ce},
                      {"budget_loss", m.budget_loss},
                      {"selected_share", m.selected_share},
                      {"grad_norm", m.grad_norm},
                      {"lr", m.lr},
                      {"budget_loss_weight", m.budget_loss_weight},
                      {"tokens", m.tokens},
                      {"seconds", m.seconds},
                      {"tokens_per_second", m.tokens_per_second}};
  if (m.skipped) line["skipped"] = true;
  return line.dump() + "\n";
}

std::string ToJsonLine(const ValidMetrics& m) {
  const auto bits = [](const ValidMetrics& of) {
    return std::isfinite(of.bits_per_byte) ? OrderedJson(of.bits_per_byte) : OrderedJson();
  };
  OrderedJson line = {{"step", m.step},
                      {"valid_ce", m.ce},
                      {"valid_bits_per_byte", bits(m)},
                      {"valid_tokens", m.tokens},
                      {"valid_selected_share", m.selected_share},
                      {"valid_selected_share_noise", m.selected_share_noise},
                      {"valid_recall_hits", m.recall.hit_share()},
                      {"valid_recall_hit_ce", m.recall.hit_ce()},
                      {"valid_other_ce", m.recall.other_ce()}};
  for (const ValidMetrics& part : m.parts) {
    line["valid_ce:" + part.source] = part.ce;
    line["valid_bits_per_byte:" + part.source] = bits(part);
    line["valid_tokens:" + part.source] = part.tokens;
  }
  return line.dump() + "\n";
}

ValidMetrics Together(std::vector<ValidMetrics> parts) {
  CHECK(!parts.empty());
  ValidMetrics all;
  all.step = parts[0].step;
  all.selected_share.resize(parts[0].selected_share.size());
  all.selected_share_noise.resize(parts[0].selected_share_noise.size());
  double nll = 0;
  bool bytes_known = true;
  for (const ValidMetrics& part : parts) all.tokens += part.tokens;
  for (const ValidMetrics& part : parts) {
    const double share = static_cast<double>(part.tokens) / static_cast<double>(all.tokens);
    for (size_t i = 0; i < all.selected_share.size(); ++i) {
      all.selected_share[i] += share * part.selected_share[i];
      all.selected_share_noise[i] += share * part.selected_share_noise[i];
    }
    nll += part.ce * part.weight;
    all.weight += part.weight;
    all.bytes += part.bytes;
    bytes_known = bytes_known && part.bytes > 0;
    all.recall.hit_nll += part.recall.hit_nll;
    all.recall.other_nll += part.recall.other_nll;
    all.recall.hits += part.recall.hits;
    all.recall.others += part.recall.others;
  }
  all.ce = nll / all.weight;
  all.bits_per_byte = bytes_known ? nll / std::numbers::ln2 / all.bytes : std::numeric_limits<double>::quiet_NaN();
  all.parts = std::move(parts);
  return all;
}

void MetricsHistory::Add(const StepMetrics& m) {
  if (!std::isfinite(m.ce)) return;  // of a step that was skipped: nothing to draw
  step.push_back(static_cast<double>(m.step));
  ce.push_back(m.ce);
  grad_norm.push_back(m.grad_norm);
  lr.push_back(m.lr);
  tokens_per_second.push_back(m.tokens_per_second);
  selected_share.resize(m.selected_share.size());
  for (size_t i = 0; i < m.selected_share.size(); ++i) selected_share[i].push_back(m.selected_share[i]);
}

void MetricsHistory::Add(const ValidMetrics& m) {
  valid_step.push_back(static_cast<double>(m.step));
  valid_ce.push_back(m.ce);
  valid_selected_share.resize(m.selected_share.size());
  for (size_t i = 0; i < m.selected_share.size(); ++i) valid_selected_share[i].push_back(m.selected_share[i]);
}

namespace {

[[noreturn]] void RefuseLine(const std::string& where) {
  throw UserError({.where = where,
                   .problem = "not a line of training metrics",
                   .hint = "move the file away to go on without what it tells of the steps so far"});
}

}  // namespace

MetricsHistory CutMetrics(const std::string& path, int64_t last_step) {
  MetricsHistory history;
  if (!PathExists(path)) return history;
  const std::string all = ReadFile(path);
  std::string kept;
  int64_t line_number = 0;
  for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    ++line_number;
    const std::string text = all.substr(begin, end - begin);
    const OrderedJson line = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
    const bool last = end + 1 == all.size();
    if (line.is_discarded() && last) break;  // torn, with a line feed after it
    const std::string where = path + ":" + std::to_string(line_number);
    try {
      if (line.at("step").get<int64_t>() > last_step) break;
      if (!AddLine(line, history)) RefuseLine(where);
    } catch (const OrderedJson::exception&) {
      RefuseLine(where);
    }
    kept += text + "\n";
  }
  if (kept.size() != all.size()) WriteFileAtomically(path, kept);
  return history;
}

MetricsWriter::MetricsWriter(const std::string& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
  if (fd_ < 0) throw UserError(path, std::string("cannot write: ") + std::strerror(errno));
}

MetricsWriter::~MetricsWriter() { ::close(fd_); }

// May stop within a line; the rest of it is what waits.
std::string MetricsWriter::WriteWaiting() {
  int error = internal::WriteFaultAt(WriteStage::kWrite, path_);
  while (error == 0 && !waiting_.empty()) {
    const ssize_t written = ::write(fd_, waiting_.data(), waiting_.size());
    if (written > 0) waiting_.erase(0, static_cast<size_t>(written));
    if (written == 0) error = ENOSPC;
    if (written < 0 && errno != EINTR) error = errno;
  }
  return error == 0 ? "" : fmt::format("{}: cannot write: {}", path_, std::strerror(error));
}

std::string MetricsWriter::Write(const std::string& line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_ += line;
  return WriteWaiting();
}

void MetricsWriter::Sync() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::string why = WriteWaiting();
    if (!why.empty()) throw UserError(path_, why.substr(path_.size() + 2));
  }
  if (::fsync(fd_) != 0) throw UserError(path_, std::string("cannot write: ") + std::strerror(errno));
}

}  // namespace taipan
