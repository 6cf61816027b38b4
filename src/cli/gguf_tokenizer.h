#pragma once
// The tokenizer that a GGUF file carries: reading it, and writing that of a folder into one.

#include "formats/gguf.h"
#include "text/gguf_vocabulary.h"

namespace taipan {

// The keys tokenizer.ggml.* and tokenizer.chat_template. UserError naming the file where one is missing or of a wrong
// type; a file without vocabulary ("no_vocab") has none.
std::optional<GgufVocabulary> ReadGgufVocabulary(const GgufFile& file);

// Of a .gguf file; null where it has none.
std::unique_ptr<Tokenizer> LoadGgufTokenizer(const std::string& path);

// The same keys for the byte-level BPE vocabulary of a folder's tokenizer.json, filled up to `vocab_size` tokens.
// Empty, with the reason, where the folder has none or another kind, or none of llama.cpp's word patterns cuts text
// alike.
GgufMetadata VocabularyMetadata(const std::string& folder, int64_t vocab_size, std::string& reason);

}  // namespace taipan
