#pragma once
// What ends a document.

#include <optional>

#include "text/tokenizer.h"

namespace taipan {

// The tokenizer's eos, else an added token that is known to end a whole text.
std::optional<int32_t> EndOfDocument(const Tokenizer& tokenizer);

}  // namespace taipan
