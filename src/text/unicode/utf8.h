#pragma once
// UTF-8: checked decoding of a stream that is cut anywhere, and encoding of one code point.

#include <cstdint>
#include <string>
#include <string_view>

namespace taipan {

// Takes bytes piece by piece (tokens may split a character) and gives back only complete, valid UTF-8. Ill-formed bytes
// become U+FFFD, one for each maximal subpart as the Unicode standard (3.9, table 3-11) and the WHATWG decoder have it.
class Utf8Stream {
 public:
  // What can be shown after these bytes; an incomplete character is held back.
  std::string Append(std::string_view bytes);
  // The end of the stream: an incomplete character becomes one U+FFFD. The stream can be used again.
  std::string Flush();
  bool pending() const { return !held_.empty(); }

 private:
  std::string held_;                        // the first bytes of a character, valid so far
  int needed_ = 0;                          // bytes that it still lacks
  uint8_t lowest_ = 0x80, highest_ = 0xBF;  // the range allowed for the next byte
};

// All of `bytes`, made valid.
std::string ToValidUtf8(std::string_view bytes);

// Bytes of the well-formed character that `bytes` opens with, 0 where it opens with none.
size_t Utf8CharacterSize(std::string_view bytes);

// Bytes before the first ill-formed one.
size_t ValidUtf8Size(std::string_view bytes);

// The character's code point; `character` is one well-formed character.
uint32_t DecodeUtf8(std::string_view character);

// Bytes of white space (Unicode's White_Space) at the beginning and the end of well-formed text.
size_t LeadingSpaces(std::string_view text);
size_t TrailingSpaces(std::string_view text);

// code_point <= 0x10FFFF and no surrogate.
std::string EncodeUtf8(uint32_t code_point);

}  // namespace taipan
