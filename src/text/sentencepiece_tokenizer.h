#pragma once
// SentencePiece's tokenizer.model: what libsentencepiece makes of it, by our own merges where those are all there is.

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace taipan {

// Whether the file's content may be a SentencePiece model (a protobuf message whose first field is a vocabulary
// piece) and not the lines of a tiktoken file.
bool LooksLikeSentencePiece(std::string_view content);

// Ids as libsentencepiece gives them; decoding too, but control tokens keep their spelling, as other tokenizers here
// have it, and a broken character becomes one U+FFFD and not one for each byte. BOS and EOS are the model's.
// add_special_tokens puts BOS in front where add_bos is set, EOS behind with add_eos. UserError naming `where` for a
// damaged model.
struct SentencePieceOptions {
  bool add_bos = false, add_eos = false;
};
std::unique_ptr<Tokenizer> MakeSentencePieceTokenizer(const std::string& content, const std::string& where,
                                                      const SentencePieceOptions& options);

}  // namespace taipan
