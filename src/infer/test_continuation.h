#pragma once
// For tests: how a state goes on.

#include "infer/sequence_reader.h"
#include "infer/test_model.h"

namespace taipan {

// Logits after a piece of 20 tokens and two single steps.
inline std::vector<float> Continuation(const LanguageModel& model, SequenceState& state) {
  SequenceReader reader(model);
  reader.Read(RandomTokens(20, 9), state);
  Tensor logits({1, 256});
  SequenceState* const pointer = &state;
  for (const int32_t token : {5, 250}) reader.Step({&token, 1}, {&pointer, 1}, logits.Matrix());
  return {logits.F32(), logits.F32() + 256};
}

inline SequenceState StateAfter(const LanguageModel& model, int64_t tokens) {
  SequenceState state = model.NewState();
  SequenceReader(model).Read(RandomTokens(tokens), state);
  return state;
}

}  // namespace taipan
