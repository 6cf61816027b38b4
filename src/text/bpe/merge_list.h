#pragma once
// Merges of a byte-level vocabulary, as merges.txt and GGUF files write them: "LEFT RIGHT" in GPT-2's byte alphabet.

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe/bpe.h"
#include "text/bpe/bpe_tokenizer.h"

namespace taipan {

class MergeList {
 public:
  // Fills the bytes of the vocabulary's kText tokens from their spellings. One that is not spelled in the alphabet is
  // never given by merges; its text is its spelling. UserError naming `where` for a vocabulary that is not byte-level,
  // or that has a token twice.
  MergeList(BpeVocabulary& vocabulary, const std::string& where);

  // UserError naming `where` unless both tokens and their result are in the vocabulary.
  void Add(std::string_view merge, const std::string& where);
  Bpe Build(const BpeVocabulary& vocabulary, const BpeSettings& settings) const;

 private:
  int32_t Find(const std::string& spelling, const std::string& where) const;

  std::unordered_map<std::string, int32_t> ids_;  // of spellings
  std::vector<BpeMerge> merges_;
};

}  // namespace taipan
