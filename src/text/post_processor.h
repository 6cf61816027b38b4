#pragma once
// Post-processors of tokenizer.json: the special tokens around a text.

#include <cstdint>
#include <vector>

#include "text/json_part.h"

namespace taipan {

struct PostProcessor {
  std::vector<int32_t> before, after;  // ids
};

// TemplateProcessing (its template for one text), ByteLevel (changes no ids) and sequences of them; ids lie below
// vocab_size. UserError for another type.
PostProcessor ReadPostProcessor(const JsonPart& part, int64_t vocab_size);

}  // namespace taipan
