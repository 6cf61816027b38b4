#pragma once
// The tokenizer of a model that is written in another form.

#include <string>

#include "formats/gguf.h"
#include "model/checkpoint.h"

namespace taipan {

// The vocabulary and chat template for a GGUF file; empty where the model has none.
GgufMetadata TokenizerMetadata(const Checkpoint& in);
// Writes the files of the tokenizer and returns how many they are.
size_t WriteTokenizer(const Checkpoint& in, const std::string& folder);

}  // namespace taipan
