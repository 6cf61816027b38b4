#pragma once
// Matrices rounded to blocks for the inputs that they get on a text.

#include <functional>
#include <span>
#include <string>

#include "model/export.h"
#include "model/model.h"

namespace taipan {

struct QuantCalibration {
  std::span<const int32_t> tokens;
  int64_t context = 512;        // of the windows, each read from a fresh state
  int64_t most_tokens = 16384;  // of a longer text windows are taken at even distances
  std::string where = {};       // names the text in UserErrors
  std::function<void(int64_t done, int64_t all)> on_progress{};
};

// UserError where a text is too short to calibrate with or has ids outside the vocabulary.
void CheckCalibration(const QuantCalibration& calibration, const ModelConfig& config);

// All matrices of products that `types` gives blocks, branch by branch: a matrix's inputs come through the branches
// before as they were rounded. Leaves the rounded values in the model, whose weights are masters. UserError where a
// value does not fit its type or the model's activations are not finite.
RoundedBlocks CalibrateBlocks(LanguageModel& model, const TypeOfTensor& types, const QuantCalibration& calibration);

}  // namespace taipan
