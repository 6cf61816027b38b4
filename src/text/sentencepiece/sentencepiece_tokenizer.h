#pragma once
// SentencePiece's tokenizer.model: what libsentencepiece makes of it, by our own merges where those are all there is.

#include <memory>
#include <string>
#include <string_view>

#include "text/sentencepiece/sentencepiece_model.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace taipan {

// Whether the file's content may be a SentencePiece model (a protobuf message whose first field is a vocabulary
// piece) and not the lines of a tiktoken file.
bool LooksLikeSentencePiece(std::string_view content);

struct SentencePieceOptions {
  bool add_bos = false, add_eos = false;      // what add_special_tokens puts around a text
  std::optional<bool> add_prefix_space = {};  // before a text; none: as the model says
  bool prefix_first_only = false;             // and not behind each special or added token
  TokenizerConfig config = {};                // its tokens
};
SentencePieceOptions OptionsOf(const TokenizerConfig& config);

// The tokens that are cut out of a text before the model sees it: its control tokens, and those of the configuration.
std::vector<AddedToken> AddedTokensOf(const SentencePieceModel& model, const TokenizerConfig& config);

// Ids as libsentencepiece gives them; decoding too, but control tokens keep their spelling, as other tokenizers here
// have it, and a broken character becomes one U+FFFD and not one for each byte. BOS and EOS are the model's. UserError
// naming `where` for a damaged model.
std::unique_ptr<Tokenizer> MakeSentencePieceTokenizer(const std::string& content, const std::string& where,
                                                      const SentencePieceOptions& options);

}  // namespace taipan
