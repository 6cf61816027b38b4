#pragma once
// For tests: small vocabularies as GGUF files have them.

#include <fmt/format.h>

#include "text/gguf/gguf_vocabulary.h"
#include "text/vocabulary_test_files.h"

namespace taipan {

// Byte-level: ids 0 to 255 the bytes, five merges, a control token, a user-defined one.
inline GgufVocabulary Gpt2Like() {
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "smollm";
  v.merges = {"h e", "l l", "he ll", "\u0120 he", "1 2"};  // from 256 on
  v.tokens = TestSpellings(v.merges, {"<|im_end|>", "  x  "});
  v.types.assign(v.tokens.size(), 1);
  v.types[261] = 3;
  v.types[262] = 4;
  v.eos = 261;
  return v;
}

// The pieces of a SentencePiece model as a GGUF file has them.
inline GgufVocabulary LlamaLike(const std::vector<std::string>& pieces) {
  GgufVocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>", "<s>", "</s>", "[INST]"};
  v.types = {2, 3, 3, 3};
  v.scores.assign(4 + 256, 0);
  for (int b = 0; b < 256; ++b) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", b));
    v.types.push_back(6);
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    v.tokens.push_back(pieces[i]);
    v.types.push_back(1);
    v.scores.push_back(-static_cast<float>(i));
  }
  v.bos = 1;
  v.eos = 2;
  v.unk = 0;
  return v;
}

}  // namespace taipan
