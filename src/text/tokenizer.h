#pragma once
// Text to token ids and back.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode/utf8.h"

namespace taipan {

struct EncodeOptions {
  bool add_special_tokens = false;  // what the file's post-processor puts around a text, such as BOS
  bool parse_special = false;       // the text of a special token becomes its id; else it is text like any other
  // Parts of a text that was cut where Tokenizer::CutIn said: nothing comes before one that does not begin the text, or
  // behind one that does not end it.
  bool begins = true, ends = true;
};

// Ids to bytes, one at a time. What a token gives may depend on those before it (SentencePiece drops the space that
// opens a text), so a continuation is read by a decoder that has seen the ids before it.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  // Appends what is settled now; perhaps only part of a character. UserError for an id outside of the vocabulary.
  virtual void Append(int32_t id, std::string& bytes) = 0;
  // The end of the text: appends what was held back. The decoder then starts anew.
  virtual void Flush(std::string& bytes) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocab_size() const = 0;
  virtual std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const = 0;
  // How many of a text's first bytes, the more the better, can be encoded by themselves: their ids and those of what
  // follows (as one that does not begin the text) are the ids of the whole, however it goes on. 0: it is not known.
  virtual size_t CutIn(std::string_view, const EncodeOptions&) const { return 0; }
  // The bytes of one token inside a text, perhaps only part of a character; "" for an id below vocab_size() that the
  // file leaves out. UserError for an id outside of the vocabulary.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  // The id of a token by its spelling in the tokenizer's file, such as "<|im_end|>"; added tokens come first.
  virtual std::optional<int32_t> TokenId(std::string_view spelling) const = 0;
  // Whether the token stands for no text: BOS, the ends of messages and the like.
  virtual bool IsSpecial(int32_t) const { return false; }
  // Whether the token is cut out of a text by its spelling, as special tokens are, and never given by merges.
  virtual bool IsAdded(int32_t id) const { return IsSpecial(id); }
  // Gives TokenBytes of every id unless a tokenizer says otherwise. The tokenizer must outlive it.
  virtual std::unique_ptr<TokenDecoder> NewDecoder() const;

  // All of the ids through a decoder; not always valid UTF-8 (see DecodeStream).
  std::string Decode(std::span<const int32_t> ids) const;

  // Set from the file or the files beside it; none where nothing names them.
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  void set_bos(std::optional<int32_t> id) { bos_ = id; }
  void set_eos(std::optional<int32_t> id) { eos_ = id; }

 private:
  std::optional<int32_t> bos_, eos_;
};

// Streaming decoding: ids one at a time to text that can be shown, valid UTF-8 without split characters.
class DecodeStream {
 public:
  explicit DecodeStream(const Tokenizer& tokenizer) : decoder_(tokenizer.NewDecoder()) {}
  std::string Append(int32_t id);
  std::string Flush();  // the end; the stream can be used again

 private:
  std::unique_ptr<TokenDecoder> decoder_;
  Utf8Stream utf8_;
};

// Streaming encoding of a text of any length: bytes as they come to ids, exactly those of the whole text. It keeps what
// may not be cut yet, which is little where words stand between spaces.
class EncodeStream {
 public:
  // The tokenizer must outlive it.
  // enough: bytes before a place to cut is looked for.
  explicit EncodeStream(const Tokenizer& tokenizer, EncodeOptions options = {}, size_t enough = size_t{1} << 16)
      : tokenizer_(tokenizer), options_(options), enough_(enough), next_try_(enough) {}
  std::vector<int32_t> Append(std::string_view bytes);
  std::vector<int32_t> Finish();                // the end of the text
  size_t held() const { return held_.size(); }  // bytes without ids yet

 private:
  const Tokenizer& tokenizer_;
  EncodeOptions options_;
  std::string held_;
  const size_t enough_;
  size_t next_try_;
};

// Ids 0 to 255 are the bytes; no bos or eos.
class ByteTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 256; }
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options = {}) const override;
  size_t CutIn(std::string_view text, const EncodeOptions&) const override { return text.size(); }
  std::string_view TokenBytes(int32_t id) const override;
  std::optional<int32_t> TokenId(std::string_view spelling) const override;
};

// The tokenizer.json of ByteTokenizer, as Hugging Face libraries read it: byte-level BPE without merges, the vocabulary
// in the order of the bytes. The same text at each call.
std::string ByteTokenizerJson();

// Whether the folder has a file that names a tokenizer of any kind, one that we cannot read included.
bool HasTokenizer(const std::string& directory);

// "byte", a tokenizer file, or a folder that has one; null for a folder without any. UserError for a missing or bad
// file and for a kind that is not supported.
std::unique_ptr<Tokenizer> LoadTokenizer(const std::string& path_or_directory);

}  // namespace taipan
