#include "text/unicode/utf8.h"

#include <cstring>

#include "base/error.h"

namespace taipan {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool IsWhiteSpace(uint32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

}  // namespace

std::string Utf8Stream::Append(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (needed_ > 0) {
      const bool fits = byte >= lowest_ && byte <= highest_;
      lowest_ = 0x80;
      highest_ = 0xBF;
      if (fits) {
        held_ += c;
        if (--needed_ == 0) {
          out += held_;
          held_.clear();
        }
        continue;
      }
      out += kReplacement;  // for what was held; this byte starts anew
      held_.clear();
      needed_ = 0;
    }
    if (byte < 0x80) {
      out += c;
    } else if (byte >= 0xC2 && byte <= 0xF4) {
      needed_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
      if (byte == 0xE0) lowest_ = 0xA0;   // below: overlong
      if (byte == 0xED) highest_ = 0x9F;  // above: surrogates
      if (byte == 0xF0) lowest_ = 0x90;   // below: overlong
      if (byte == 0xF4) highest_ = 0x8F;  // above: beyond U+10FFFF
      held_ = c;
    } else {
      out += kReplacement;
    }
  }
  return out;
}

std::string Utf8Stream::Flush() {
  std::string out(held_.empty() ? std::string_view() : kReplacement);
  *this = Utf8Stream();
  return out;
}

std::string ToValidUtf8(std::string_view bytes) {
  Utf8Stream stream;
  std::string out = stream.Append(bytes);
  return out + stream.Flush();
}

size_t Utf8CharacterSize(std::string_view bytes) {
  const auto at = [&](size_t i) { return i < bytes.size() ? static_cast<uint8_t>(bytes[i]) : uint8_t{0}; };
  const auto tail = [&](size_t i) { return (at(i) & 0xC0) == 0x80; };
  const uint8_t lead = at(0), second = at(1);
  if (lead < 0x80) return bytes.empty() ? 0 : 1;
  if (lead < 0xC2 || lead > 0xF4 || !tail(1)) return 0;
  if (lead < 0xE0) return 2;
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;  // overlong, surrogates
  if (lead < 0xF0) return tail(2) ? 3 : 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;  // overlong, beyond U+10FFFF
  return tail(2) && tail(3) ? 4 : 0;
}

size_t ValidUtf8Size(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    uint64_t eight = 0;
    if (bytes.size() - at >= sizeof eight) std::memcpy(&eight, bytes.data() + at, sizeof eight);
    if (bytes.size() - at >= sizeof eight && (eight & 0x8080808080808080u) == 0) {
      at += sizeof eight;
      continue;
    }
    const size_t size = Utf8CharacterSize(bytes.substr(at));
    if (size == 0) break;
    at += size;
  }
  return at;
}

uint32_t DecodeUtf8(std::string_view character) {
  const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(character[i])); };
  switch (character.size()) {
    case 1:
      return at(0);
    case 2:
      return (at(0) & 0x1F) << 6 | (at(1) & 0x3F);
    case 3:
      return (at(0) & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    default:
      CHECK_EQ(character.size(), 4u);
      return (at(0) & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F);
  }
}

size_t LeadingSpaces(std::string_view text) {
  for (size_t at = 0;;) {
    const size_t size = Utf8CharacterSize(text.substr(at));
    if (size == 0 || !IsWhiteSpace(DecodeUtf8(text.substr(at, size)))) return at;
    at += size;
  }
}

size_t TrailingSpaces(std::string_view text) {
  for (size_t end = text.size();;) {
    size_t begin = end;
    while (begin > 0 && (static_cast<uint8_t>(text[--begin]) & 0xC0) == 0x80) continue;
    const size_t size = Utf8CharacterSize(text.substr(begin, end - begin));
    if (size == 0 || !IsWhiteSpace(DecodeUtf8(text.substr(begin, size)))) return text.size() - end;
    end = begin;
  }
}

std::string EncodeUtf8(uint32_t code_point) {
  CHECK_LE(code_point, 0x10FFFFu);
  CHECK(code_point < 0xD800 || code_point > 0xDFFF);
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | (code_point >> 6)), tail(0)};
  if (code_point < 0x10000) return {static_cast<char>(0xE0 | (code_point >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | (code_point >> 18)), tail(12), tail(6), tail(0)};
}

}  // namespace taipan
