#pragma once
// Pre-tokenizers of tokenizer.json: they cut a text into the words that byte-pair encoding takes one by one.

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "text/json_part.h"

namespace taipan {

// A stretch of text; `first`: it opens the whole text.
struct Piece {
  std::string_view text;
  bool first = false;
};
using PieceSink = std::function<void(const Piece&)>;
// Whether a text, which may go on in any way, can be cut before the character at `at`.
using CutCheck = std::function<bool(std::string_view text, size_t at)>;

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  // Hands the words of a non-empty piece to the sink, from left to right; they live as long as the call.
  virtual void Split(const Piece& piece, const PieceSink& sink) const = 0;
  // Whether both parts of a text that is cut before the space at `at`, behind another character, have the words of the
  // whole; of a word that the cut lies in, `inside` decides. The second part is not the first of a text.
  virtual bool AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const = 0;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // leaves the text whole
  // UserError for a type that is not supported.
  explicit PreTokenizer(const JsonPart& part);

  // Whether words are sequences of bytes (ByteLevel), not of characters.
  bool byte_level() const { return byte_level_; }
  // Hands each word, never empty, to the sink as its bytes. The text is valid UTF-8; words need not be.
  void Split(const Piece& text, const PieceSink& sink) const;
  bool AllowsCut(std::string_view text, size_t at, const CutCheck& inside) const;

 private:
  void Read(const JsonPart& part);
  void Run(size_t begin, size_t end, const Piece& piece, const PieceSink& sink) const;
  bool AllowsCutFrom(size_t step, std::string_view text, size_t at, const CutCheck& inside) const;

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool byte_level_ = false;
  size_t spell_at_ = SIZE_MAX;  // from this step on text is spelled in the byte alphabet; SIZE_MAX: never
};

}  // namespace taipan
