#pragma once
// SentencePiece puts a space before a text; decoding takes it away again.

#include "text/tokenizer.h"

namespace taipan {

class LeadingSpaceDecoder : public TokenDecoder {
 public:
  enum Drop { kNothing, kFirstSpace, kAllSpaces };
  // Spaces of tokens for which spells_space[id] is set are dropped at the start; both must outlive the decoder.
  LeadingSpaceDecoder(const Tokenizer& tokenizer, const std::vector<bool>& spells_space, Drop drop)
      : tokenizer_(tokenizer), spells_space_(spells_space), drop_(drop) {}

  void Append(int32_t id, std::string& bytes) override {
    std::string_view text = tokenizer_.TokenBytes(id);
    if (at_start_ && drop_ != kNothing && spells_space_[static_cast<size_t>(id)]) {
      text.remove_prefix(1);
      at_start_ = drop_ == kAllSpaces && text.empty();
    }
    if (!text.empty() && !tokenizer_.IsSpecial(id)) at_start_ = false;
    bytes += text;
  }
  void Flush(std::string& bytes) override { at_start_ = true; }

 private:
  const Tokenizer& tokenizer_;
  const std::vector<bool>& spells_space_;
  Drop drop_;
  bool at_start_ = true;
};

}  // namespace taipan
