#include "model/rope_scaling.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/error.h"
#include "kernels/rope.h"

namespace taipan {
namespace {

struct RopeFields {
  std::string type;
  std::optional<double> rope_theta, partial_rotary_factor;
  std::optional<double> factor, low_freq_factor, high_freq_factor;
  std::optional<int64_t> original_max_position_embeddings;
};

void VisitFields(RopeFields& f, const FieldVisitor& visit) {
  visit({.name = "rope_type"}, &f.type);
  visit({.name = "type"}, &f.type);
  visit({.name = "rope_theta"}, &f.rope_theta);
  visit({.name = "partial_rotary_factor"}, &f.partial_rotary_factor);
  visit({.name = "factor"}, &f.factor);
  visit({.name = "low_freq_factor"}, &f.low_freq_factor);
  visit({.name = "high_freq_factor"}, &f.high_freq_factor);
  visit({.name = "original_max_position_embeddings"}, &f.original_max_position_embeddings);
}

std::string TypeOf(const Json& value) {
  for (const char* key : {"rope_type", "type"}) {
    if (value.contains(key) && value[key].is_string()) return value[key].get<std::string>();
  }
  return "default";
}

template <class T>
T Needed(const std::optional<T>& value, const char* key, const std::string& where) {
  if (value) return *value;
  throw UserError({where, fmt::format("rope_scaling has no {}", key), "a number", "none"});
}

}  // namespace

std::optional<RopeScaling> ParseRopeScaling(const Json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  if (!value.is_object()) throw UserError({where, "rope_scaling", "an object or null", DescribeJson(value)});
  const std::string type = TypeOf(value);
  if (type != "default" && type != "linear" && type != "llama3") {
    throw UserError({where, "this rope_type is not supported", "default, linear or llama3", DescribeJson(Json(type))});
  }
  RopeFields fields;
  ReadFields(value, where + ": rope_scaling", fields);
  if (type == "default") return std::nullopt;
  RopeScaling scaling;
  scaling.factor = Needed(fields.factor, "factor", where);
  if (type == "linear") return scaling;
  scaling.type = RopeScaling::Type::kLlama3;
  scaling.low_freq_factor = Needed(fields.low_freq_factor, "low_freq_factor", where);
  scaling.high_freq_factor = Needed(fields.high_freq_factor, "high_freq_factor", where);
  scaling.original_max_position_embeddings =
      Needed(fields.original_max_position_embeddings, "original_max_position_embeddings", where);
  return scaling;
}

Json RopeScalingJson(const RopeScaling& s) {
  if (s.type == RopeScaling::Type::kLinear) return {{"rope_type", "linear"}, {"factor", s.factor}};
  return {{"rope_type", "llama3"},
          {"factor", s.factor},
          {"low_freq_factor", s.low_freq_factor},
          {"high_freq_factor", s.high_freq_factor},
          {"original_max_position_embeddings", s.original_max_position_embeddings}};
}

std::vector<double> RopeFrequencyDivisors(const ModelConfig& c) {
  std::vector<double> divisors = RopeInverseFrequencies(*c.rope_theta, c.rotary_dim());
  for (double& at : divisors) {
    const double frequency = at;
    at = 1;
    if (!c.rope_scaling) continue;
    const RopeScaling& s = *c.rope_scaling;
    at = s.factor;
    if (s.type == RopeScaling::Type::kLinear) continue;
    const double waves = static_cast<double>(s.original_max_position_embeddings) * frequency / (2 * std::numbers::pi);
    const double t = std::clamp((waves - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
    at = 1 / ((1 - t) / s.factor + t);
  }
  return divisors;
}

std::vector<double> RopeFrequencies(const ModelConfig& c) {
  if (!c.rope_theta) return {};
  std::vector<double> frequencies = RopeInverseFrequencies(*c.rope_theta, c.rotary_dim());
  const std::vector<double> divisors = RopeFrequencyDivisors(c);
  for (size_t j = 0; j < frequencies.size(); ++j) frequencies[j] /= divisors[j];
  return frequencies;
}

}  // namespace taipan
