#pragma once
// Which type each matrix of a quantized model gets, and how far its values are then from what they were.

#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/export.h"
#include "model/model.h"

namespace taipan {

// --keep PATTERN=TYPE: a part of our names, or with * one that fits them whole.
struct KeepRule {
  std::string pattern;
  GgmlType type = GgmlType::kF32;
};
KeepRule ParseKeepRule(const std::string& text);  // UserError
// "q4_k": a type of blocks that can be written and runs as it is stored. UserError naming `flag`.
GgmlType ParseQuantType(const std::string& text, const std::string& flag);
std::string QuantTypeNames();  // "q8_0, q4_0, ..."

// The first rule that fits decides, else: the head at least Q6_K, all others `type`. Where its blocks do not divide the
// rows, a type of 32 with as many bits; where those do not either, bf16.
TypeOfTensor QuantTypes(const ModelConfig& config, GgmlType type, std::vector<KeepRule> keep);

struct QuantizedTensor {
  std::string name, group, type;
  double values = 0, bytes_before = 0, bytes_after = 0;
  double squares = 0, error_squares = 0;  // sums, of the values before and of what changed
};
// Of the matrices of `out` beside those of the model that it was made of (in f32) and its checkpoint.
std::vector<QuantizedTensor> CompareTensors(LanguageModel& model, const Checkpoint& in, const Checkpoint& out);

}  // namespace taipan
