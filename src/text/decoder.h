#pragma once
// Decoders of tokenizer.json: spellings of the vocabulary back to bytes.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_part.h"
#include "text/tokenizer.h"

namespace taipan {

// ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip and sequences of them. Bytes that are no UTF-8 stay what
// they are (Hugging Face's decoders put U+FFFD in their place, which DecodeStream does).
class Decoder {
 public:
  // Null: tokens joined by spaces, as Hugging Face does it. UserError for a type or an order that is not supported.
  explicit Decoder(const JsonPart& part);

  // The bytes of one token before what acts on the whole text; `first`: the text opens with it.
  std::string TokenBytes(std::string_view spelling, bool first) const;
  // Whether TokenBytes depends on `first`.
  bool first_differs() const { return first_differs_; }

  // What acts on the whole text, fed piece by piece. Append adds to `out` what is settled.
  class Stream {
   public:
    explicit Stream(const Decoder& decoder);
    void Append(std::string_view token, std::string& out);
    void Flush(std::string& out);

   private:
    struct Stage {
      size_t stripped = 0;  // characters at the start
      bool started = false;
      std::string held;  // what may still be stripped at the end or be part of what is replaced
    };
    void Feed(size_t stage, std::string_view text, std::string& out);
    void FeedStrip(size_t stage, std::string_view text, std::string& out);
    void FeedReplace(size_t stage, std::string_view text, std::string& out);

    const Decoder& decoder_;
    std::vector<Stage> stages_;
    bool any_ = false;
  };

 private:
  enum class Kind { kByteLevel, kByteFallback, kMetaspace, kReplace, kStrip };
  struct Step {
    Kind kind;
    std::string from = {}, to = {};  // Replace; Strip's and Metaspace's character is `from`
    size_t start = 0, stop = 0;      // Strip: at most that many characters
    bool drops_first = false;        // Metaspace: none of the first token's characters becomes a space
  };

  void Read(const JsonPart& part);
  Step ReadStep(const JsonPart& part, const std::string& type);

  std::vector<Step> token_steps_, text_steps_;
  bool fused_ = false, joins_with_space_ = false, first_differs_ = false;
};

}  // namespace taipan
