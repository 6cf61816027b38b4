// Codes and scales of a run of a quantized matrix, for any vector. Include after highway.h within a foreach_target file
// (hence no ordinary include guard).
#if defined(TAIPAN_QUANT_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_QUANT_UNPACK_INL_H_
#undef TAIPAN_QUANT_UNPACK_INL_H_
#else
#define TAIPAN_QUANT_UNPACK_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/gemm/quant_matrix.h"
#include "tensor/f16.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Of a run: a number for each row of the group. `second`: the minimum, or the scale of the second half.
struct QuantScales {
  float first[kQuantRows], second[kQuantRows];
};

// w[i] = the level of code w[i].
HWY_INLINE void LookUpLevels(uint8_t* w) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 512; ++i) w[i] = kIq4Levels[w[i]];
#else
  const hn::ScalableTag<uint8_t> d;
  const auto table = hn::LoadDup128(d, kIq4Levels);
  for (int64_t i = 0; i < 512; i += static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(hn::TableLookupBytes(table, hn::LoadU(d, w + i)), d, w + i);
  }
#endif
}

// Chunk c of a run's codes at w + 64 c.
HWY_INLINE void LoadCodes(const QuantFormat& f, const uint8_t* HWY_RESTRICT high, const uint8_t* HWY_RESTRICT low,
                          uint8_t* HWY_RESTRICT w) {
  if (f.bits == 8) {
    std::memcpy(w, low, 512);
    return;
  }
  for (int v = 0; v < 4; ++v) {
    for (int i = 0; i < 64; ++i) {
      w[128 * v + i] = low[64 * v + i] & 15;
      w[128 * v + 64 + i] = low[64 * v + i] >> 4;
    }
  }
  if (f.type == GgmlType::kIQ4_NL) LookUpLevels(w);
  if (f.bits == 4) return;
  const int width = f.bits - 4, of_vector = 8 / width, mask = (1 << width) - 1;  // chunks whose upper bits share one
  for (int c = 0; c < 8; ++c) {
    const uint8_t* bits = high + c / of_vector * 64;
    const int shift = c % of_vector * width;
    for (int i = 0; i < 64; ++i) w[64 * c + i] = static_cast<uint8_t>(w[64 * c + i] | ((bits[i] >> shift) & mask) << 4);
  }
}

// A number of each row in half precision, exactly.
HWY_INLINE void LoadHalves(const uint8_t* p, float* to) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  for (int64_t r = 0; r < kQuantRows; r += static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p) + r)), d, to + r);
  }
#else
  for (int64_t r = 0; r < kQuantRows; ++r) {
    F16 half;
    std::memcpy(&half, p + 2 * r, sizeof half);
    to[r] = ToFloat(half);
  }
#endif
}

// heads of a group -> the scales of a run.
HWY_INLINE void LoadScales(const QuantFormat& f, const uint8_t* head, int64_t run, QuantScales& to) {
  const int64_t of_block = f.elements / kQuantRun, part = run % of_block;
  head += run / of_block * f.head * kQuantRows;
  LoadHalves(head, to.first);
  if (f.type == GgmlType::kQ6_K) {
    const uint8_t* scales = head + 32 + part * 32;
    for (int64_t r = 0; r < kQuantRows; ++r) {
      to.second[r] = to.first[r] * static_cast<float>(static_cast<int8_t>(scales[16 + r]));
      to.first[r] *= static_cast<float>(static_cast<int8_t>(scales[r]));
    }
    return;
  }
  if (f.head == 2) return;
  LoadHalves(head + 32, to.second);
  if (f.head == 4) return;
  const uint8_t* packed = head + 64;  // twelve bytes of each row, see UnpackScale of tensor/ggml_blocks.cc
  for (int64_t r = 0; r < kQuantRows; ++r) {
    const auto at = [&](int64_t i) { return static_cast<int>(packed[16 * i + r]); };
    const int scale = part < 4 ? at(part) & 63 : (at(part + 4) & 15) | at(part - 4) >> 6 << 4;
    const int min = part < 4 ? at(part + 4) & 63 : at(part + 4) >> 4 | at(part) >> 6 << 4;
    to.first[r] *= static_cast<float>(scale);
    to.second[r] *= static_cast<float>(min);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#endif
