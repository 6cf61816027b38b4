#pragma once
// The tokenizer inside of a GGUF file (keys tokenizer.ggml.*), with llama.cpp's reading of it.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace taipan {

struct GgufVocabulary {
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  std::string model;  // tokenizer.ggml.model: "gpt2" or "llama"
  std::string pre;    // tokenizer.ggml.pre, for gpt2: the name of the word pattern; "": "default"
  std::vector<std::string> tokens;
  std::vector<float> scores;             // llama: a token of a higher score merges first
  std::vector<int32_t> types;            // Type, as SentencePiece numbers them too; empty: all normal
  std::vector<std::string> merges;       // gpt2: "LEFT RIGHT", by rank
  std::optional<int32_t> bos, eos, unk;  // tokenizer.ggml.{bos,eos,unknown}_token_id
  std::optional<int32_t> eot;            // tokenizer.ggml.eot_token_id: ends an answer, as eos does
  std::optional<bool> add_bos, add_eos;  // none: as llama.cpp for this model and pre
  std::optional<bool> add_space_prefix;  // llama; none: true
  std::string chat_template;             // tokenizer.chat_template, "" where there is none (see ChatTemplate)
  // What llama.cpp has no keys for: tokenizer.taipan.*, which it skips.
  std::vector<int32_t> stops;     // eos_token_ids: further tokens that end an answer
  std::vector<AddedToken> flags;  // added_tokens: those that take white space or are not found everywhere
  // "": llama.cpp's. "first": llama, the space stands before a text only, not behind added tokens too. "each": gpt2, a
  // space before each stretch of text that begins with none.
  std::string space_prefix;

  int type_of(size_t id) const { return types.empty() ? kNormal : types[id]; }
  // One more token that ends an answer, unless it is known already.
  void AddStop(int32_t id);
};

// UserError naming `where` for another model, an unknown pre, lists that do not fit together.
std::unique_ptr<Tokenizer> MakeGgufTokenizer(const GgufVocabulary& vocabulary, const std::string& where);

// bos_token, eos_token and unk_token by their texts, for ChatTemplate.
std::map<std::string, std::string> SpecialTokenTexts(const GgufVocabulary& vocabulary);

}  // namespace taipan
