#include "golden_check/golden.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "base/files.h"

namespace taipan::golden {
namespace {

std::vector<std::string>& MutableNotes() {
  static std::vector<std::string> notes;
  return notes;
}

}  // namespace

const std::string& Root() {
  static const std::string root = [] {
    const char* folder = std::getenv("TAIPAN_GOLDEN");
    std::string path = folder != nullptr && *folder != '\0' ? folder : TAIPAN_DEFAULT_GOLDEN;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
  }();
  return root;
}

std::string PathOf(const std::string& relative) { return Root() + "/" + relative; }

nlohmann::json ReadJson(const std::string& relative) { return nlohmann::json::parse(ReadFile(PathOf(relative))); }

std::vector<nlohmann::json> ReadJsonLines(const std::string& relative) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(ReadFile(PathOf(relative)));
  for (std::string line; std::getline(text, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) lines.push_back(nlohmann::json::parse(line));
  }
  return lines;
}

std::vector<std::string> SetsOf(const std::string& kind) {
  std::vector<std::string> sets;
  if (!IsDirectory(PathOf(kind))) return sets;
  for (const std::string& name : ListDirectory(PathOf(kind))) {
    if (IsDirectory(PathOf(kind + "/" + name))) sets.push_back(name);
  }
  return sets;
}

std::vector<float> Values(const SafetensorsFile& file, const std::string& name,
                          const std::optional<std::vector<int64_t>>& shape) {
  const Tensor tensor = file.ReadF32(name, shape ? *shape : file.At(name).shape);
  return {tensor.F32(), tensor.F32() + tensor.size()};
}

std::vector<uint8_t> Bytes(const SafetensorsFile& file, const std::string& name, int64_t n) {
  const SafetensorsEntry& entry = file.At(name);
  if (entry.bytes != n) {
    throw UserError({file.path(), "tensor " + name, fmt::format("{} bytes", n), fmt::format("{}", entry.bytes)});
  }
  const auto* data = static_cast<const uint8_t*>(entry.data);
  return {data, data + n};
}

std::vector<std::vector<int32_t>> ReadTokens(const std::string& relative) {
  std::vector<std::vector<int32_t>> sequences;
  for (const nlohmann::json& line : ReadJsonLines(relative)) sequences.push_back(line.get<std::vector<int32_t>>());
  return sequences;
}

double MaxAbs(const std::vector<float>& x) {
  double largest = 0;
  for (float value : x) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  return largest;
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= largest)) largest = d;
    if (std::isnan(d)) break;
  }
  return largest;
}

Bounds BoundsOf(double oracle_error, double max_abs_logit) {
  const double logits = std::max(2e-4, 5 * oracle_error);
  return {logits, logits / max_abs_logit};
}

double OracleError(const nlohmann::json& info) {
  constexpr const char* kKey = "oracle_float32_max_abs_error";
  if (info.contains(kKey)) return info.at(kKey);
  double largest = 0;
  for (const std::string& set : SetsOf("logits")) {
    const nlohmann::json other = ReadJson("logits/" + set + "/info.json");
    if (other.at("model") == info.at("model")) largest = std::max(largest, other.value(kKey, 0.0));
  }
  return largest;
}

void Note(const std::string& text) {
  std::vector<std::string>& notes = MutableNotes();
  if (std::find(notes.begin(), notes.end(), text) == notes.end()) notes.push_back(text);
}
const std::vector<std::string>& Notes() { return MutableNotes(); }

}  // namespace taipan::golden
