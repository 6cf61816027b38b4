#include "model/quantize.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/error.h"

namespace taipan {
namespace {

constexpr GgmlType kTypes[] = {GgmlType::kQ8_0, GgmlType::kQ4_0,   GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                               GgmlType::kQ4_K, GgmlType::kIQ4_NL, GgmlType::kQ5_K, GgmlType::kQ6_K};

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// A type of blocks that divide rows of `cols`.
GgmlType Fitting(GgmlType type, int64_t cols) {
  if (cols % BlockElements(type) == 0) return type;
  const GgmlType narrow = type == GgmlType::kQ4_K   ? GgmlType::kIQ4_NL
                          : type == GgmlType::kQ5_K ? GgmlType::kQ5_0
                                                    : GgmlType::kQ8_0;
  return cols % BlockElements(narrow) == 0 ? narrow : GgmlType::kBF16;
}

bool Fits(const std::string& pattern, const std::string& name) {
  if (pattern.find('*') == std::string::npos) return name.find(pattern) != std::string::npos;
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

}  // namespace

std::string QuantTypeNames() {
  std::string names;
  for (const GgmlType type : kTypes) names += (names.empty() ? "" : ", ") + Lower(NameOf(type));
  return names;
}

GgmlType ParseQuantType(const std::string& text, const std::string& flag) {
  for (const GgmlType type : kTypes) {
    if (Lower(text) == Lower(NameOf(type))) return type;
  }
  throw UserError({flag, "unknown type", QuantTypeNames(), text});
}

KeepRule ParseKeepRule(const std::string& text) {
  const size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0) {
    throw UserError({"--keep", "no rule", "PATTERN=TYPE, such as in_proj=bf16 or *.layers.0.*=q8_0", text});
  }
  const std::string type = Lower(text.substr(at + 1));
  const std::string pattern = text.substr(0, at);
  for (const GgmlType wide : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16}) {
    if (type == Lower(NameOf(wide))) return {pattern, wide};
  }
  try {
    return {pattern, ParseQuantType(type, "--keep")};
  } catch (const UserError&) {
    throw UserError({"--keep", "unknown type", "f32, f16, bf16, " + QuantTypeNames(), type});
  }
}

TypeOfTensor QuantTypes(const ModelConfig& config, GgmlType type, std::vector<KeepRule> keep) {
  const std::string head = config.tie_word_embeddings ? "model.embeddings.weight" : "lm_head.weight";
  return [=, keep = std::move(keep)](const ForeignTensor& t) {
    const int64_t cols = t.shape[1];
    for (const KeepRule& rule : keep) {
      if (Fits(rule.pattern, t.parameter)) return Fitting(rule.type, cols);
    }
    const bool wide = type == GgmlType::kQ8_0 || type == GgmlType::kQ6_K;
    return Fitting(t.parameter == head && !wide ? GgmlType::kQ6_K : type, cols);
  };
}

std::vector<QuantizedTensor> CompareTensors(LanguageModel& model, const Checkpoint& in, const Checkpoint& out) {
  const std::vector<ForeignTensor> before = ForeignTensors(model.config(), in.naming),
                                   after = ForeignTensors(model.config(), out.naming);
  const auto bytes_of = [](const TensorSource& tensors, const ForeignTensor& t) {
    const double share = t.rows > 0 ? static_cast<double>(t.rows) / static_cast<double>(t.shape[0]) : 1;
    return static_cast<double>(tensors.Stored(t.name).bytes) * share;
  };
  std::vector<QuantizedTensor> all;
  size_t next = 0;
  model.params().ForEach([&](Weight& w) {
    const size_t i = next++;
    if (w.spec.role != Role::kLinear) return;
    QuantizedTensor t{.name = w.spec.name, .group = w.spec.group, .type = out.Tensors().Stored(after[i].name).type};
    t.values = w.spec.count();
    t.bytes_before = bytes_of(in.Tensors(), before[i]);
    t.bytes_after = bytes_of(out.Tensors(), after[i]);
    const Tensor values = ReadParameter(out.Tensors(), after[i]);
    const float* was = std::as_const(w).F32();
    for (int64_t j = 0; j < values.size(); ++j) {
      const double x = was[j], off = values.F32()[j] - x;
      t.squares += x * x;
      t.error_squares += off * off;
    }
    all.push_back(std::move(t));
  });
  return all;
}

}  // namespace taipan
