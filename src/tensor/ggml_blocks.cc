#include "tensor/ggml_blocks.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace taipan {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers in the blocks are little-endian");

constexpr int64_t kTaskElements = int64_t{1} << 16;  // a multiple of every block length

template <class T>
T ReadAt(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

float HalfAt(const uint8_t* p) { return ToFloat(ReadAt<F16>(p)); }

// Each function below turns one block at `b` into weights; its comment gives the fields in the order of the bytes.
// Weights i and i + 16 share a byte of `qs` in the blocks of 32: low and high four bits.
// __restrict: bytes may alias anything, which would keep the loops from vectorising.

// d f16, qs 16: (q - 8) d
void Q4_0(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b);
  const uint8_t* qs = b + 2;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>((qs[i] & 15) - 8);
    to[i + 16] = d * static_cast<float>((qs[i] >> 4) - 8);
  }
}

// d f16, m f16, qs 16: q d + m
void Q4_1(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b), m = HalfAt(b + 2);
  const uint8_t* qs = b + 4;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>(qs[i] & 15) + m;
    to[i + 16] = d * static_cast<float>(qs[i] >> 4) + m;
  }
}

// The fifth bits of 32 weights: bit i of `high` belongs to weight i.
void JoinFifthBits(uint32_t high, const uint8_t* qs, int32_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = static_cast<int32_t>((qs[i] & 15) | ((high >> i) & 1) << 4);
    q[i + 16] = static_cast<int32_t>((qs[i] >> 4) | ((high >> (i + 16)) & 1) << 4);
  }
}

// d f16, high 4, qs 16: (q - 16) d
void Q5_0(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b);
  int32_t q[32];
  JoinFifthBits(ReadAt<uint32_t>(b + 2), b + 6, q);
  for (int i = 0; i < 32; ++i) to[i] = d * static_cast<float>(q[i] - 16);
}

// d f16, m f16, high 4, qs 16: q d + m
void Q5_1(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b), m = HalfAt(b + 2);
  int32_t q[32];
  JoinFifthBits(ReadAt<uint32_t>(b + 4), b + 8, q);
  for (int i = 0; i < 32; ++i) to[i] = d * static_cast<float>(q[i]) + m;
}

// d f16, q 32 signed bytes: q d
void Q8_0(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b);
  for (int i = 0; i < 32; ++i) to[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

// scales 16 (low four bits: scale, high: minimum), qs 64, d f16, dmin f16. Bits 2 s and 2 s + 1 of qs[32 h + i] are
// weight 128 h + 32 s + i; 16 weights share a scale.
void Q2_K(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b + 80), dmin = HalfAt(b + 82);
  for (int run = 0; run < 16; ++run, to += 16) {
    const float scale = d * static_cast<float>(b[run] & 15), min = dmin * static_cast<float>(b[run] >> 4);
    const uint8_t* qs = b + 16 + run / 8 * 32 + run % 2 * 16;
    const int shift = run / 2 % 4 * 2;
    for (int i = 0; i < 16; ++i) to[i] = scale * static_cast<float>((qs[i] >> shift) & 3) - min;
  }
}

// high 32, qs 64 as in Q2_K, scales 12, d f16. Bit s of high[i] clear: weight 32 s + i is 4 less. Scales have six bits,
// minus 32: the low four in the halves of eight bytes, the high two in quarters of four bytes.
void Q3_K(const uint8_t* b, float* __restrict to) {
  const uint8_t *high = b, *low = b + 32, *packed = b + 96;
  const float d = HalfAt(b + 108);
  for (int run = 0; run < 16; ++run, to += 16) {
    const int scale4 = (packed[run % 8] >> (run / 8 * 4)) & 15, scale2 = (packed[8 + run % 4] >> (run / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((scale4 | scale2 << 4) - 32);
    const uint8_t *qs = low + run / 8 * 32 + run % 2 * 16, *hs = high + run % 2 * 16;
    const int shift = run / 2 % 4 * 2, bit = run / 2;
    for (int i = 0; i < 16; ++i) {
      to[i] = scale * static_cast<float>(((qs[i] >> shift) & 3) - 4 + ((hs[i] >> bit) & 1) * 4);
    }
  }
}

// Six-bit scale and minimum of run `run` of 8 from twelve bytes: four scales and four minima of six bits with two spare
// bits each; four bytes with the low halves of the other four, whose upper bits are the spare ones.
struct ScaleAndMin {
  float scale, min;
};
ScaleAndMin UnpackScale(const uint8_t* packed, int run) {
  if (run < 4) return {static_cast<float>(packed[run] & 63), static_cast<float>(packed[run + 4] & 63)};
  const int low = packed[run + 4], scale_high = packed[run - 4] >> 6, min_high = packed[run] >> 6;
  return {static_cast<float>((low & 15) | scale_high << 4), static_cast<float>((low >> 4) | min_high << 4)};
}

// d f16, dmin f16, scales 12, qs 128: (d scale) q - dmin min. Byte 32 g + i holds weights 64 g + i and 64 g + 32 + i.
void Q4_K(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b), dmin = HalfAt(b + 2);
  for (int run = 0; run < 8; ++run, to += 32) {
    const ScaleAndMin s = UnpackScale(b + 4, run);
    const float scale = d * s.scale, min = dmin * s.min;
    const uint8_t* qs = b + 16 + run / 2 * 32;
    const int shift = run % 2 * 4;
    for (int i = 0; i < 32; ++i) to[i] = scale * static_cast<float>((qs[i] >> shift) & 15) - min;
  }
}

// Q4_K with high 32 before qs: bit s of high[i] is the fifth bit of weight 32 s + i.
void Q5_K(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b), dmin = HalfAt(b + 2);
  const uint8_t* high = b + 16;
  for (int run = 0; run < 8; ++run, to += 32) {
    const ScaleAndMin s = UnpackScale(b + 4, run);
    const float scale = d * s.scale, min = dmin * s.min;
    const uint8_t* qs = b + 48 + run / 2 * 32;
    const int shift = run % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int q = ((qs[i] >> shift) & 15) | ((high[i] >> run) & 1) << 4;
      to[i] = scale * static_cast<float>(q) - min;
    }
  }
}

// low 128, high 64, scales 16 signed bytes, d f16: (d scale) (q - 32). Of each half h of 128 weights: low[64 h + i]
// holds weights i and i + 64 (i < 64), bits 2 s and 2 s + 1 of high[32 h + i] belong to weight 32 s + i.
void Q6_K(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b + 208);
  for (int run = 0; run < 16; ++run, to += 16) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(b[192 + run]));
    const int half = run / 8, part = run / 2 % 4, at = run % 2 * 16;
    const uint8_t *low = b + half * 64 + part % 2 * 32 + at, *high = b + 128 + half * 32 + at;
    const int low_shift = part / 2 * 4, high_shift = part * 2;
    for (int i = 0; i < 16; ++i) {
      const int q = ((low[i] >> low_shift) & 15) | ((high[i] >> high_shift) & 3) << 4;
      to[i] = scale * static_cast<float>(q - 32);
    }
  }
}

// d f16, qs 16: d levels[q]. Levels lie closer where weights are more frequent.
constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
void IQ4_NL(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b);
  const uint8_t* qs = b + 2;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * kIq4Levels[qs[i] & 15];
    to[i + 16] = d * kIq4Levels[qs[i] >> 4];
  }
}

// d f16, high 2, low 4, qs 128: (d scale) levels[q]. Eight runs of 32 as in IQ4_NL; scales have six bits, minus 32: the
// low four in the halves of `low`, the high two in `high`.
void IQ4_XS(const uint8_t* b, float* __restrict to) {
  const float d = HalfAt(b);
  const int high = ReadAt<uint16_t>(b + 2);
  for (int run = 0; run < 8; ++run, to += 32) {
    const int scale4 = (b[4 + run / 2] >> (run % 2 * 4)) & 15, scale2 = (high >> (run * 2)) & 3;
    const float scale = d * static_cast<float>((scale4 | scale2 << 4) - 32);
    const uint8_t* qs = b + 8 + run * 16;
    for (int i = 0; i < 16; ++i) {
      to[i] = scale * kIq4Levels[qs[i] & 15];
      to[i + 16] = scale * kIq4Levels[qs[i] >> 4];
    }
  }
}

// exponent 1, qs 16: 2^(exponent - 128) levels[q], the levels being twice those of four-bit floats.
constexpr float kFp4Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
void MXFP4(const uint8_t* b, float* __restrict to) {
  const float d = std::ldexp(1.0f, b[0] - 128);
  const uint8_t* qs = b + 1;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * kFp4Levels[qs[i] & 15];
    to[i + 16] = d * kFp4Levels[qs[i] >> 4];
  }
}

template <class Stored>
void Widen(const uint8_t* b, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    to[i] = ToFloat(ReadAt<Stored>(b + i * static_cast<int64_t>(sizeof(Stored))));
  }
}

template <int kElements, int kBytes, void (*kBlock)(const uint8_t*, float*)>
void Blocks(const uint8_t* b, float* __restrict to, int64_t n) {
  for (int64_t i = 0; i < n; i += kElements, b += kBytes) kBlock(b, to + i);
}

struct Row {
  GgmlType type;
  int64_t elements, bytes;  // of a block
  void (*dequantize)(const uint8_t* from, float* to, int64_t n);
};

template <GgmlType kType, int kElements, int kBytes, void (*kBlock)(const uint8_t*, float*)>
constexpr Row kBlockRow = {kType, kElements, kBytes, Blocks<kElements, kBytes, kBlock>};

constexpr Row kRows[] = {
    {GgmlType::kF32, 1, 4, Widen<float>},           {GgmlType::kF16, 1, 2, Widen<F16>},
    {GgmlType::kBF16, 1, 2, Widen<BF16>},           kBlockRow<GgmlType::kQ4_0, 32, 18, Q4_0>,
    kBlockRow<GgmlType::kQ4_1, 32, 20, Q4_1>,       kBlockRow<GgmlType::kQ5_0, 32, 22, Q5_0>,
    kBlockRow<GgmlType::kQ5_1, 32, 24, Q5_1>,       kBlockRow<GgmlType::kQ8_0, 32, 34, Q8_0>,
    kBlockRow<GgmlType::kQ2_K, 256, 84, Q2_K>,      kBlockRow<GgmlType::kQ3_K, 256, 110, Q3_K>,
    kBlockRow<GgmlType::kQ4_K, 256, 144, Q4_K>,     kBlockRow<GgmlType::kQ5_K, 256, 176, Q5_K>,
    kBlockRow<GgmlType::kQ6_K, 256, 210, Q6_K>,     kBlockRow<GgmlType::kIQ4_NL, 32, 18, IQ4_NL>,
    kBlockRow<GgmlType::kIQ4_XS, 256, 136, IQ4_XS>, kBlockRow<GgmlType::kMXFP4, 32, 17, MXFP4>,
};

const Row* FindRow(uint32_t number) {
  const auto row =
      std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.type == GgmlType{number}; });
  return row == std::end(kRows) ? nullptr : row;
}

const Row& RowOf(GgmlType type) {
  const Row* row = FindRow(static_cast<uint32_t>(type));
  CHECK(row != nullptr);
  return *row;
}

// By number; empty where the format gives none.
constexpr const char* kNames[] = {"F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
                                  "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
                                  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
                                  "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  "",
                                  "",        "",       "TQ1_0",   "TQ2_0", "",       "",      "",      "MXFP4"};

}  // namespace

std::optional<GgmlType> GgmlTypeOf(uint32_t number) {
  const Row* row = FindRow(number);
  return row != nullptr ? std::optional(row->type) : std::nullopt;
}

std::string GgmlTypeName(uint32_t number) {
  const bool named = number < std::size(kNames) && kNames[number][0] != 0;
  return named ? kNames[number] : fmt::format("type {}", number);
}

std::optional<GgmlType> GgmlTypeNamed(const std::string& name) {
  const auto same = [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; };
  for (const Row& row : kRows) {
    const std::string of_row = NameOf(row.type);
    if (std::equal(name.begin(), name.end(), of_row.begin(), of_row.end(), same)) return row.type;
  }
  return std::nullopt;
}

std::string ReadableGgmlTypes() {
  std::string all;
  for (const Row& row : kRows) all += (all.empty() ? "" : ", ") + NameOf(row.type);
  return all;
}

int64_t BlockElements(GgmlType type) { return RowOf(type).elements; }
int64_t BlockBytes(GgmlType type) { return RowOf(type).bytes; }

void Dequantize(GgmlType type, const void* from, int64_t n, float* to) {
  const Row& row = RowOf(type);
  CHECK_EQ(n % row.elements, 0);
  ParallelForRanges(n, kTaskElements, [&](int64_t begin, int64_t end) {
    row.dequantize(static_cast<const uint8_t*>(from) + begin / row.elements * row.bytes, to + begin, end - begin);
  });
}

}  // namespace taipan
