#include "tensor/ggml_codes.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace taipan {
namespace {

// Weights i and i + 16 share byte i of `qs`.
template <int kQs>
void Halves(const uint8_t* block, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = block[kQs + i] & 15;
    codes[i + 16] = block[kQs + i] >> 4;
  }
}
template <int kQs>
void JoinHalves(const uint8_t* codes, uint8_t* block) {
  for (int i = 0; i < 16; ++i) block[kQs + i] = static_cast<uint8_t>((codes[i] & 15) | codes[i + 16] << 4);
}

// The same with the fifth bits in the four bytes before.
template <int kQs>
void FiveBits(const uint8_t* block, uint8_t* codes) {
  Halves<kQs>(block, codes);
  uint32_t high;
  std::memcpy(&high, block + kQs - 4, 4);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] | ((high >> i) & 1) << 4);
}
template <int kQs>
void JoinFiveBits(const uint8_t* codes, uint8_t* block) {
  JoinHalves<kQs>(codes, block);
  uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(codes[i] >> 4) << i;
  std::memcpy(block + kQs - 4, &high, 4);
}

// Signed bytes, shifted to be unsigned.
void Bytes(const uint8_t* block, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = block[2 + i] ^ 128;
}
void JoinBytes(const uint8_t* codes, uint8_t* block) {
  for (int i = 0; i < 32; ++i) block[2 + i] = codes[i] ^ 128;
}

// Byte 32 g + i of `qs` holds weights 64 g + i and 64 g + 32 + i.
template <int kQs>
void Runs(const uint8_t* block, uint8_t* codes) {
  for (int g = 0; g < 4; ++g) {
    for (int i = 0; i < 32; ++i) {
      codes[64 * g + i] = block[kQs + 32 * g + i] & 15;
      codes[64 * g + 32 + i] = block[kQs + 32 * g + i] >> 4;
    }
  }
}
template <int kQs>
void JoinRuns(const uint8_t* codes, uint8_t* block) {
  for (int g = 0; g < 4; ++g) {
    for (int i = 0; i < 32; ++i) {
      block[kQs + 32 * g + i] = static_cast<uint8_t>((codes[64 * g + i] & 15) | codes[64 * g + 32 + i] << 4);
    }
  }
}

// Bit s of byte 16 + i: the fifth of weight 32 s + i.
void FiveBitRuns(const uint8_t* block, uint8_t* codes) {
  Runs<48>(block, codes);
  for (int s = 0; s < 8; ++s) {
    for (int i = 0; i < 32; ++i) {
      codes[32 * s + i] = static_cast<uint8_t>(codes[32 * s + i] | ((block[16 + i] >> s) & 1) << 4);
    }
  }
}
void JoinFiveBitRuns(const uint8_t* codes, uint8_t* block) {
  JoinRuns<48>(codes, block);
  for (int i = 0; i < 32; ++i) {
    int bits = 0;
    for (int s = 0; s < 8; ++s) bits |= codes[32 * s + i] >> 4 << s;
    block[16 + i] = static_cast<uint8_t>(bits);
  }
}

// Of each half h of 128 weights: byte 64 h + i holds weights i and i + 64 (i < 64), bits 2 s and 2 s + 1 of byte
// 128 + 32 h + i belong to weight 32 s + i.
void SixBits(const uint8_t* block, uint8_t* codes) {
  for (int h = 0; h < 2; ++h, block += 64, codes += 128) {
    const uint8_t* high = block + 128 - h * 32;
    for (int i = 0; i < 64; ++i) {
      codes[i] = block[i] & 15;
      codes[i + 64] = block[i] >> 4;
    }
    for (int s = 0; s < 4; ++s) {
      for (int i = 0; i < 32; ++i) {
        codes[32 * s + i] = static_cast<uint8_t>(codes[32 * s + i] | ((high[i] >> 2 * s) & 3) << 4);
      }
    }
  }
}
void JoinSixBits(const uint8_t* codes, uint8_t* block) {
  for (int h = 0; h < 2; ++h, block += 64, codes += 128) {
    uint8_t* high = block + 128 - h * 32;
    for (int i = 0; i < 64; ++i) block[i] = static_cast<uint8_t>((codes[i] & 15) | codes[i + 64] << 4);
    for (int i = 0; i < 32; ++i) {
      int bits = 0;
      for (int s = 0; s < 4; ++s) bits |= codes[32 * s + i] >> 4 << 2 * s;
      high[i] = static_cast<uint8_t>(bits);
    }
  }
}

struct Coder {
  GgmlType type;
  void (*codes)(const uint8_t* block, uint8_t* codes);
  void (*join)(const uint8_t* codes, uint8_t* block);
};
constexpr Coder kCoders[] = {{GgmlType::kQ8_0, Bytes, JoinBytes},
                             {GgmlType::kQ4_0, Halves<2>, JoinHalves<2>},
                             {GgmlType::kQ4_1, Halves<4>, JoinHalves<4>},
                             {GgmlType::kQ5_0, FiveBits<6>, JoinFiveBits<6>},
                             {GgmlType::kQ5_1, FiveBits<8>, JoinFiveBits<8>},
                             {GgmlType::kIQ4_NL, Halves<2>, JoinHalves<2>},
                             {GgmlType::kQ4_K, Runs<16>, JoinRuns<16>},
                             {GgmlType::kQ5_K, FiveBitRuns, JoinFiveBitRuns},
                             {GgmlType::kQ6_K, SixBits, JoinSixBits}};

const Coder* Find(GgmlType type) {
  const auto found =
      std::find_if(std::begin(kCoders), std::end(kCoders), [&](const Coder& r) { return r.type == type; });
  return found == std::end(kCoders) ? nullptr : found;
}

}  // namespace

bool HasBlockCodes(GgmlType type) { return Find(type) != nullptr; }

void BlockCodes(GgmlType type, const uint8_t* block, uint8_t* codes) {
  const Coder* row = Find(type);
  CHECK(row != nullptr);
  row->codes(block, codes);
}

void SetBlockCodes(GgmlType type, const uint8_t* codes, uint8_t* block) {
  const Coder* row = Find(type);
  CHECK(row != nullptr);
  row->join(codes, block);
}

}  // namespace taipan
