#pragma once
// The keys tokenizer.* of a GGUF file.

#include "formats/gguf.h"
#include "text/gguf/gguf_vocabulary.h"

namespace taipan {

// tokenizer.ggml.model names a vocabulary; a file may come without.
bool HasVocabulary(const GgufFile& file);
// UserError for keys of another type. Whether they fit together is for MakeGgufTokenizer to say.
GgufVocabulary ReadGgufVocabulary(const GgufFile& file);
GgufMetadata VocabularyMetadata(const GgufVocabulary& vocabulary);

}  // namespace taipan
