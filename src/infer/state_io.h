#pragma once
// A sequence's state in one safetensors file (docs/state.md): layers.N.ssm_state, layers.N.conv_state, layers.N.k,
// layers.N.v (F32 or BF16, as the run kept them), `position`, `tokens` and `logits` where they are known; in the
// metadata what tells that it belongs here and is whole.

#include <string>

#include "formats/safetensors.h"
#include "infer/model_digest.h"
#include "infer/snapshot.h"

namespace taipan {

// Written atomically. A saved, restored sequence continues bit for bit as the original would.
void SaveSequence(const LanguageModel& model, const SequenceSnapshot& sequence, const std::string& path);

// UserError for a file that is no state, one of another version, model or number format, and for one that is cut or
// damaged anywhere.
SequenceSnapshot LoadSequence(const LanguageModel& model, const std::string& path);
SequenceSnapshot LoadSequence(const LanguageModel& model, const SafetensorsFile& file);

// What a state file says of itself: enough to see whether it is of use. Its content is not checked.
struct StateFileInfo {
  int64_t position = 0;
  uint64_t token_digest = kNoTokensDigest;
};
// UserErrors as above.
StateFileInfo ReadStateInfo(const LanguageModel& model, const std::string& path);

// What `checksum` in the metadata of a whole file is.
std::string StateChecksum(const SafetensorsFile& file);

}  // namespace taipan
