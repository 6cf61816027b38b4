#pragma once
// The tokenizer of a GGUF file as files of a model folder, and back.

#include <string>
#include <utility>
#include <vector>

#include "text/gguf/gguf_vocabulary.h"

namespace taipan {

// (name, content): tokenizer.json of a "gpt2" vocabulary, tokenizer.model (SentencePiece) of a "llama" one, and
// tokenizer_config.json; generation_config.json where something beside EOS ends an answer. Ids stay; unused tokens
// "[PADn]" are left out of tokenizer.json. UserError naming `where` for a vocabulary that is damaged or that these
// files cannot hold.
std::vector<std::pair<std::string, std::string>> TokenizerFiles(const GgufVocabulary& vocabulary,
                                                                const std::string& where);

struct FolderVocabulary {
  GgufVocabulary vocabulary;
  std::string remark;  // what is lost, "" for nothing
};
// The tokenizer of a folder that has one: byte-level BPE as "gpt2", a SentencePiece BPE model as "llama". Ids that the
// tokenizer lacks, up to the model's vocab_size, become unused tokens "[PADn]". UserError for files that are damaged or
// say what GGUF cannot.
FolderVocabulary ReadFolderVocabulary(const std::string& directory, int64_t vocab_size);

}  // namespace taipan
