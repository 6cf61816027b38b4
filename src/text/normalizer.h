#pragma once
// Normalizers of tokenizer.json: NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip and sequences of them.

#include <memory>
#include <string>
#include <string_view>

#include "text/json_part.h"

namespace taipan {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // The normalized text: `text` itself where nothing changes, else a view into `buffer`. Valid UTF-8 in and out.
  virtual std::string_view Apply(std::string_view text, std::string& buffer) const = 0;
  // The same for what follows the cut of a text before a space that stands behind another character. Whether both parts
  // then give what the whole gives, and the second part's still begins with a space or U+2581 behind another character.
  virtual std::string_view ApplyBehindCut(std::string_view text, std::string& buffer) const {
    return Apply(text, buffer);
  }
  virtual bool AllowsCuts() const = 0;
};

// UserError for a type that is not supported.
std::unique_ptr<Normalizer> ReadNormalizer(const JsonPart& part);

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// Unicode normalization as Hugging Face's tokenizers do it: their library knows no decompositions and combining classes
// of characters newer than Unicode 9. Linear in the text.
std::string_view NormalizeUnicode(std::string_view text, UnicodeForm form, std::string& buffer);

}  // namespace taipan
