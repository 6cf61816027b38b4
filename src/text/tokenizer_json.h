#pragma once
// Tokenizers of Hugging Face's tokenizer.json with a BPE model, ids as its `tokenizers` library gives them.

#include <memory>
#include <string>

#include "base/fields.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace taipan {

// `where` names the file in errors: whatever the file asks for that is not supported, is missing or contradicts itself
// is refused. Only "truncation" and "padding" do nothing: they are settings of calls, not of the tokenizer.
//
// Text that is not UTF-8 (which Hugging Face's library cannot be given) keeps its bytes where the vocabulary has tokens
// for them; for a byte without a token U+FFFD is encoded. GPT-NeoX's has none for bytes that UTF-8 never uses.
std::unique_ptr<Tokenizer> ReadTokenizerJson(const Json& json, const std::string& where);

// Puts what the files beside it say into the content of a tokenizer.json, where that has the shape of one: tokens and
// their flags, and the space before a text for the classes that act on it.
void MergeIntoTokenizerJson(const TokenizerConfig& config, const std::string& where, Json& json);

}  // namespace taipan
