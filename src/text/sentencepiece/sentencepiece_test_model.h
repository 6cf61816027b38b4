#pragma once
// For tests: SentencePiece models written byte by byte.

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

inline std::string WireVarint(uint64_t n) {
  std::string bytes;
  for (; n >= 0x80; n >>= 7) bytes += static_cast<char>(n | 0x80);
  return bytes + static_cast<char>(n);
}
inline std::string WireNumber(uint64_t field, uint64_t n) { return WireVarint(field << 3) + WireVarint(n); }
inline std::string WireBytes(uint64_t field, std::string_view bytes) {
  return WireVarint(field << 3 | 2) + WireVarint(bytes.size()) + std::string(bytes);
}
inline std::string WirePiece(std::string_view text, float score, int type) {
  std::string bits(sizeof score, '\0');
  std::memcpy(bits.data(), &score, sizeof score);
  std::string piece = WireBytes(1, text) + WireVarint(2 << 3 | 5) + bits;
  if (type != 1) piece += WireNumber(3, static_cast<uint64_t>(type));
  return WireBytes(1, piece);
}

// A BPE model as Llama's: <unk>, <s>, </s>, [INST] (control), the 256 bytes, then `pieces` by falling score.
inline std::string SentencePieceTestModel(const std::vector<std::string>& pieces, bool add_dummy_prefix = true) {
  std::string model =
      WirePiece("<unk>", 0, 2) + WirePiece("<s>", 0, 3) + WirePiece("</s>", 0, 3) + WirePiece("[INST]", 0, 3);
  for (int b = 0; b < 256; ++b) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    model += WirePiece(std::string("<0x") + kHex[b >> 4] + kHex[b & 15] + ">", 0, 6);
  }
  for (size_t i = 0; i < pieces.size(); ++i) model += WirePiece(pieces[i], -static_cast<float>(i), 1);
  const std::string trainer =
      WireNumber(3, 2) + WireNumber(35, 1) + WireNumber(40, 0) + WireNumber(41, 1) + WireNumber(42, 2);
  const std::string normalizer =
      WireBytes(1, "identity") + WireNumber(3, add_dummy_prefix) + WireNumber(4, 0) + WireNumber(5, 1);
  return model + WireBytes(2, trainer) + WireBytes(3, normalizer);
}

}  // namespace taipan
