#pragma once
// A sequence's state in one safetensors file: layers.N.ssm_state, layers.N.conv_state, layers.N.k, layers.N.v (F32
// or BF16, as the run kept them), `position`, and in the metadata a fingerprint of the model, so that another model's
// state is refused.

#include <string>

#include "model/model.h"

namespace taipan {

// 16 hexadecimal digits of the config, the final norm and a sample of the embedding: changes with the architecture and
// with training.
std::string ModelFingerprint(const LanguageModel& model);

// Written atomically. A saved, restored state continues bit for bit as the original would. With logits [V], those after
// the last token are kept as well.
void SaveSequenceState(const LanguageModel& model, const SequenceState& state, const std::string& path,
                       std::span<const float> logits = {});

struct LoadedState {
  SequenceState state;
  std::vector<float> logits;  // empty where the file has none
};
// UserError for a damaged file, a file that is no state, and a state of another model.
LoadedState LoadSequenceState(const LanguageModel& model, const std::string& path);

}  // namespace taipan
