#include "train/run_summary.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "model/hf_config.h"

namespace taipan {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// Numbers that could not be written as JSON are null in the file.
double Number(const Json& line, const char* key) {
  return line.contains(key) && line.at(key).is_number() ? line.at(key).get<double>() : kNone;
}

std::vector<double> Numbers(const Json& line, const char* key) {
  return line.contains(key) ? line.at(key).get<std::vector<double>>() : std::vector<double>();
}

void AddLine(const Json& line, RunSummary& run) {
  const int64_t step = line.at("step").get<int64_t>();
  if (line.contains("valid_ce")) {
    ValidMetrics m;
    m.step = step;
    m.ce = Number(line, "valid_ce");
    m.bits_per_byte = Number(line, "valid_bits_per_byte");
    m.selected_share = Numbers(line, "valid_selected_share");
    m.selected_share_noise = Numbers(line, "valid_selected_share_noise");
    run.valid.push_back(std::move(m));
    return;
  }
  if (line.contains("layers")) return;
  StepMetrics m;
  m.step = step;
  m.loss = Number(line, "loss");
  m.ce = Number(line, "ce");
  m.selected_share = Numbers(line, "selected_share");
  m.tokens = line.value("tokens", int64_t{0});
  m.seconds = Number(line, "seconds");
  m.tokens_per_second = Number(line, "tokens_per_second");
  run.steps.push_back(std::move(m));
}

void ReadMetrics(const std::string& path, RunSummary& run) {
  if (!PathExists(path)) return;  // not a step yet
  const std::string all = ReadFile(path);
  int64_t number = 0;
  for (size_t begin = 0, end; (end = all.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string where = fmt::format("{}: line {}", path, ++number);
    const Json line = Json::parse(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                  all.begin() + static_cast<std::ptrdiff_t>(end), nullptr, /*allow_exceptions=*/false);
    if (line.is_discarded() && end + 1 == all.size()) return;  // torn
    try {
      AddLine(line, run);
    } catch (const Json::exception&) {
      throw UserError(where, "not a line of training metrics");
    }
  }
}

std::string PathsText(const std::vector<std::string>& paths) {
  return paths.empty() ? "none" : fmt::format("{}", fmt::join(paths, " "));
}

}  // namespace

double RunSummary::MeanLoss(size_t last) const {
  const size_t n = std::min(last, steps.size());
  double sum = 0;
  for (size_t i = steps.size() - n; i < steps.size(); ++i) sum += steps[i].ce;
  return n > 0 ? sum / static_cast<double>(n) : kNone;
}

const ValidMetrics* RunSummary::BestValidation() const {
  const auto best =
      std::min_element(valid.begin(), valid.end(), [](const auto& a, const auto& b) { return a.ce < b.ce; });
  return best == valid.end() ? nullptr : &*best;
}

double RunSummary::MedianTokensPerSecond() const {
  std::vector<double> rates;
  for (const StepMetrics& m : steps) {
    if (std::isfinite(m.tokens_per_second)) rates.push_back(m.tokens_per_second);
  }
  if (rates.empty()) return kNone;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

double RunSummary::BytesPerToken() const {
  for (const ValidMetrics& m : valid) {
    if (m.ce > 0 && m.bits_per_byte > 0) return m.ce / std::numbers::ln2 / m.bits_per_byte;
  }
  return 0;
}

RunSummary ReadRun(const std::string& folder) {
  const std::string run_file = folder + "/run.json", config_file = folder + "/model/config.json";
  if (!PathExists(run_file)) {
    throw UserError({folder, "holds no run", "the --out folder of `taipan train`, with its run.json",
                     PathExists(folder) ? "none in it" : "nothing of that name"});
  }
  RunSummary run;
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  run.name = path.filename().string();
  ReadRunFile(run_file, run.settings);
  if (PathExists(config_file)) run.config = LoadModelConfig(config_file);
  if (PathExists(folder + "/data.json")) run.data = ReadFile(folder + "/data.json");
  ReadMetrics(folder + "/metrics.jsonl", run);
  return run;
}

std::vector<std::string> DifferencesOf(const std::vector<RunSummary>& runs) {
  std::vector<std::string> notes;
  const auto compare = [&](const std::string& what, const auto& value_of) {
    std::set<std::string> different;
    std::vector<std::string> values;
    for (const RunSummary& run : runs) {
      values.push_back(value_of(run));
      different.insert(values.back());
    }
    if (different.size() > 1) notes.push_back(fmt::format("{}: {}", what, fmt::join(values, ", ")));
  };
  compare("context", [](const RunSummary& r) { return std::to_string(r.settings.context); });
  compare("vocabulary", [](const RunSummary& r) { return r.config ? std::to_string(r.config->vocab_size) : "?"; });
  compare("validation data", [](const RunSummary& r) { return PathsText(r.settings.valid_data); });
  std::set<std::string> data;
  for (const RunSummary& run : runs) data.insert(run.data.empty() ? PathsText(run.settings.data) : run.data);
  if (data.size() > 1) {
    std::vector<std::string> paths;
    for (const RunSummary& run : runs) paths.push_back(PathsText(run.settings.data));
    notes.push_back(fmt::format("training data or tokenizer: {}", fmt::join(paths, ", ")));
  }
  return notes;
}

}  // namespace taipan
