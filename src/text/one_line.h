#pragma once
// Text of unknown content inside of an error's one line.

#include <string>
#include <string_view>

#include "text/unicode/utf8.h"

namespace taipan {

// Cut after some 200 bytes, control characters as spaces, valid UTF-8.
inline std::string OneLine(std::string_view text) {
  constexpr size_t kMost = 200;
  std::string line = ToValidUtf8(text.substr(0, kMost));
  for (char& c : line) {
    if (static_cast<uint8_t>(c) < 0x20) c = ' ';
  }
  return text.size() > kMost ? line + "..." : line;
}

}  // namespace taipan
