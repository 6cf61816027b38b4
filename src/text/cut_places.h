#pragma once
// Where a text may be cut to be encoded in parts: before a space that stands behind another character.

#include <string_view>

#include "text/unicode/utf8.h"

namespace taipan {

// The last such place that `allowed` takes, of some that are tried from the end on; 0 for none.
template <class F>
size_t LastCut(std::string_view text, const F& allowed) {
  constexpr int kTries = 16;
  size_t at = text.size();
  for (int tries = 0; tries < kTries;) {
    at = at > 0 ? text.rfind(' ', at - 1) : text.npos;
    if (at == text.npos || at == 0) return 0;
    if (const size_t blanks = TrailingSpaces(text.substr(0, at)); blanks > 0) {
      at -= blanks - 1;  // on to the first of them
      continue;
    }
    if (allowed(at)) return at;
    ++tries;
  }
  return 0;
}

// The run of well-formed characters around the cut.
inline std::string_view ValidRunAround(std::string_view text, size_t at) {
  size_t begin = 0, end = ValidUtf8Size(text);
  while (end <= at) {
    begin = end;
    while (Utf8CharacterSize(text.substr(begin)) == 0) ++begin;
    end = begin + ValidUtf8Size(text.substr(begin));
  }
  return text.substr(begin, end - begin);
}

}  // namespace taipan
