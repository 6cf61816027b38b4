#pragma once
// Which model: for files that belong to one.

#include <string>

#include "model/model.h"

namespace taipan {

// 16 hexadecimal digits of the config, every vector and a sample of every matrix: another one after any training and
// for any other architecture or quantization, the same whether the model runs in f32 or bf16.
std::string ModelDigest(const LanguageModel& model);

}  // namespace taipan
