#pragma once
// Writing the tokenizer of a folder into a GGUF file.

#include "formats/gguf.h"

namespace taipan {

// The keys tokenizer.* for the byte-level BPE vocabulary of a folder's tokenizer.json, filled up to `vocab_size`
// tokens. Empty, with the reason, where the folder has none or another kind, or none of llama.cpp's word patterns cuts
// text alike.
GgufMetadata VocabularyMetadata(const std::string& folder, int64_t vocab_size, std::string& reason);

}  // namespace taipan
