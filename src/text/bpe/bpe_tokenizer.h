#pragma once
// Byte-pair encoding behind the Tokenizer interface, for vocabularies that come without a tokenizer.json: a tiktoken
// file, vocab.json with merges.txt, the arrays of a GGUF file.

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe/bpe.h"
#include "text/tokenizer.h"
#include "text/unicode/word_pattern.h"

namespace taipan {

struct BpeVocabulary {
  enum Kind : uint8_t {
    kText,      // given by merges
    kSpecial,   // stands for no text; read from its spelling with parse_special only
    kAddedText  // text that is cut out by its spelling before anything else
  };
  struct Token {
    std::string spelling;  // in the file; "" for an id without a token
    std::string bytes;     // inside a text; special tokens keep their spelling
    Kind kind = kText;
  };
  std::vector<Token> tokens;
  std::vector<AddedToken> flags;      // of tokens that are not found everywhere or take the white space beside them
  std::vector<WordPattern> patterns;  // each cuts the stretches that the one before it left; none: the text is one word
  bool spaces_as_pieces = false;      // SentencePiece: a space is U+2581 in spellings, characters fall back to bytes
  // With spaces_as_pieces: a space before the text and after special tokens; else before each stretch of text that does
  // not begin with one.
  bool add_space_prefix = false;
  bool prefix_first_only = false;  // with spaces_as_pieces: not after special tokens
  std::optional<int32_t> bos, eos;
  bool add_bos = false, add_eos = false;  // what add_special_tokens adds
};

// Sets kinds and flags of tokens that are cut out of a text; ids in between that are new have no token.
void SetAddedTokens(const std::vector<AddedToken>& added, BpeVocabulary& vocabulary);

// `bpe` gives ids of vocabulary.tokens.
std::unique_ptr<Tokenizer> MakeBpeTokenizer(BpeVocabulary vocabulary, Bpe bpe);

}  // namespace taipan
