#pragma once
// Text to token ids and back.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocab_size() const = 0;
  // No special tokens are added.
  virtual std::vector<int32_t> Encode(std::string_view text) const = 0;
  // The bytes of one token, perhaps only part of a character. UserError for an id outside of the vocabulary.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  virtual std::optional<int32_t> bos() const { return std::nullopt; }
  virtual std::optional<int32_t> eos() const { return std::nullopt; }

  // The bytes of all tokens; not always valid UTF-8 (see Utf8Stream).
  std::string Decode(std::span<const int32_t> ids) const;
};

// Ids 0 to 255 are the bytes; no bos or eos.
class ByteTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 256; }
  std::vector<int32_t> Encode(std::string_view text) const override;
  std::string_view TokenBytes(int32_t id) const override;
};

// The tokenizer.json of ByteTokenizer, as Hugging Face libraries read it: byte-level BPE without merges, the vocabulary
// in the order of the bytes. The same text at each call.
std::string ByteTokenizerJson();

// Whether the folder has a file that names a tokenizer of any kind, one that we cannot read included.
bool HasTokenizer(const std::string& directory);

// "byte", a tokenizer file, or a folder that has one; null for a folder without any. UserError for a missing or bad
// file and for any tokenizer but the byte-level one above.
std::unique_ptr<Tokenizer> LoadTokenizer(const std::string& path_or_directory);

}  // namespace taipan
