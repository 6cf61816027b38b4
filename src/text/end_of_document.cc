#include "text/end_of_document.h"

namespace taipan {

std::optional<int32_t> EndOfDocument(const Tokenizer& tokenizer) {
  if (tokenizer.eos()) return tokenizer.eos();
  for (const std::string_view name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]"}) {
    const std::optional<int32_t> id = tokenizer.TokenId(name);
    if (id && tokenizer.IsAdded(*id)) return id;
  }
  return std::nullopt;
}

}  // namespace taipan
