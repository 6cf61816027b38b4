#include "text/unicode/byte_alphabet.h"

#include <algorithm>

#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr uint32_t kEnd = 0x144;  // behind the last character of the alphabet

std::array<std::string, 256> Characters() {
  std::array<std::string, 256> characters;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
    characters[b] = EncodeUtf8(printable ? b : next++);
  }
  return characters;
}

std::array<int16_t, kEnd> Bytes() {
  std::array<int16_t, kEnd> bytes;
  bytes.fill(-1);
  for (size_t b = 0; b < 256; ++b) bytes[DecodeUtf8(ByteAlphabet()[b])] = static_cast<int16_t>(b);
  return bytes;
}

}  // namespace

const std::array<std::string, 256>& ByteAlphabet() {
  static const std::array<std::string, 256> characters = Characters();
  return characters;
}

std::string SpellBytes(std::string_view bytes) {
  std::string spelled;
  for (const char c : bytes) spelled += ByteAlphabet()[static_cast<uint8_t>(c)];
  return spelled;
}

std::optional<std::string> UnspellBytes(std::string_view spelled) {
  static const std::array<int16_t, kEnd> table = Bytes();
  std::string bytes;
  for (size_t i = 0, size = 0; i < spelled.size(); i += size) {
    size = Utf8CharacterSize(spelled.substr(i));
    const uint32_t c = size == 0 ? kEnd : DecodeUtf8(spelled.substr(i, size));
    if (c >= kEnd || table[c] < 0) return std::nullopt;
    bytes += static_cast<char>(table[c]);
  }
  return bytes;
}

}  // namespace taipan
