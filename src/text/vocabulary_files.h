#pragma once
// Tokenizers in the older files: vocab.json with merges.txt (GPT-2), and a tiktoken file (LLaMA-3).

#include <memory>
#include <string>
#include <string_view>

#include "text/bpe/bpe_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace taipan {

struct NamedText {
  std::string content, path;  // the path is for errors
};
// GPT-2's vocab.json and merges.txt: byte-level BPE, its word pattern. Special tokens are those of `config`, else
// "<|endoftext|>" where the vocabulary has it.
std::unique_ptr<Tokenizer> MakeGpt2Tokenizer(const NamedText& vocab, const NamedText& merges,
                                             const TokenizerConfig& config);

// The same files before anything is made of them. The merges are lines of `merges.content`.
struct Gpt2Files {
  struct Merge {
    std::string_view text;  // "LEFT RIGHT"
    int64_t line = 0;
  };
  BpeVocabulary vocabulary;  // without the bytes of text tokens, and without patterns
  std::vector<Merge> merges;
};
Gpt2Files ReadGpt2Files(const NamedText& vocab, const NamedText& merges, const TokenizerConfig& config);

// Whether these are lines of a base64 token and its rank.
bool LooksLikeTiktoken(std::string_view content);
// LLaMA-3's: 128000 ranks and 256 special tokens behind them, named as `config` has them, else as LLaMA 3.1 does. The
// file says neither pattern nor special tokens, so others are refused.
std::unique_ptr<Tokenizer> MakeTiktokenTokenizer(std::string_view content, const std::string& where,
                                                 const TokenizerConfig& config);

}  // namespace taipan
