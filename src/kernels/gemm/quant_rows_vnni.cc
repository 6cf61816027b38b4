#include "kernels/gemm/quant_rows_vnni.h"

#include "base/error.h"
#include "kernels/gemm/read_ahead.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

// GCC 12 takes the lanes that its own intrinsics leave open for an oversight.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstring>

#define TAIPAN_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define TAIPAN_VNNI_INLINE TAIPAN_VNNI __attribute__((always_inline)) inline

namespace taipan {
namespace {

constexpr int kChunks = 8;

// What the scales of a type are.
enum class Scales {
  kOne,       // d
  kWithMin,   // d, m: code d + m
  kK,         // d, dmin, and of eight runs a scale and a minimum of six bits
  kHalfRuns,  // d, and of 16 columns a signed byte
};
template <int kBits_, int kBias_, Scales kScales_, bool kTable_ = false>
struct Kind {
  static constexpr int kBits = kBits_, kBias = kBias_, kHigh = kBits == 5 ? 64 : kBits == 6 ? 128 : 0;
  static constexpr int kLow = kBits == 8 ? 512 : 256;
  static constexpr Scales kScales = kScales_;
  static constexpr bool kTable = kTable_;  // codes are places in a table
};

TAIPAN_VNNI_INLINE __m512i Bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

// Bits [bit, bit + count) of every byte, moved to bits 4 and up.
template <int kBit, int kCount>
TAIPAN_VNNI_INLINE __m512i Upper(__m512i v) {
  const __m512i moved = kBit < 4 ? _mm512_slli_epi16(v, kBit < 4 ? 4 - kBit : 0) : _mm512_srli_epi16(v, kBit - 4);
  return _mm512_and_si512(moved, Bytes(((1 << kCount) - 1) << 4));
}

// The codes of a chunk of a run.
template <class K, int kChunk>
TAIPAN_VNNI_INLINE __m512i Codes(const uint8_t* high, const uint8_t* low, __m512i table) {
  if constexpr (K::kBits == 8) return _mm512_loadu_si512(low + 64 * kChunk);
  const __m512i both = _mm512_loadu_si512(low + 64 * (kChunk / 2));
  __m512i w = _mm512_and_si512(kChunk % 2 == 0 ? both : _mm512_srli_epi16(both, 4), Bytes(15));
  if constexpr (K::kTable) w = _mm512_shuffle_epi8(table, w);
  if constexpr (K::kBits == 5) w = _mm512_or_si512(w, Upper<kChunk, 1>(_mm512_loadu_si512(high)));
  if constexpr (K::kBits == 6) {
    w = _mm512_or_si512(w, Upper<kChunk % 4 * 2, 2>(_mm512_loadu_si512(high + 64 * (kChunk / 4))));
  }
  return w;
}

TAIPAN_VNNI_INLINE __m512 Halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TAIPAN_VNNI_INLINE __m128i Load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
TAIPAN_VNNI_INLINE __m512 Floats(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }

// The scales of a run, a lane each row; `second` is the minimum, or the scale of the second half.
struct RunScales {
  __m512 first, second;
};
template <class K>
TAIPAN_VNNI_INLINE RunScales LoadScales(const uint8_t* head, int64_t run) {
  if constexpr (K::kScales == Scales::kOne) {
    return {Halves(head + run * 32), _mm512_setzero_ps()};
  } else if constexpr (K::kScales == Scales::kWithMin) {
    return {Halves(head + run * 64), Halves(head + run * 64 + 32)};
  } else if constexpr (K::kScales == Scales::kK) {
    head += run / 8 * 256;
    const int64_t r = run % 8;
    const __m512 d = Halves(head), dmin = Halves(head + 32);
    const uint8_t* packed = head + 64;
    const __m128i six = _mm_set1_epi8(63), four = _mm_set1_epi8(15), upper = _mm_set1_epi8(48);
    if (r < 4) {
      return {_mm512_mul_ps(d, Floats(_mm_and_si128(Load16(packed + 16 * r), six))),
              _mm512_mul_ps(dmin, Floats(_mm_and_si128(Load16(packed + 16 * (r + 4)), six)))};
    }
    const __m128i low = Load16(packed + 16 * (r + 4));
    const __m128i scale_high = _mm_and_si128(_mm_srli_epi16(Load16(packed + 16 * (r - 4)), 2), upper);
    const __m128i min_high = _mm_and_si128(_mm_srli_epi16(Load16(packed + 16 * r), 2), upper);
    return {_mm512_mul_ps(d, Floats(_mm_or_si128(_mm_and_si128(low, four), scale_high))),
            _mm512_mul_ps(dmin, Floats(_mm_or_si128(_mm_and_si128(_mm_srli_epi16(low, 4), four), min_high)))};
  } else {
    head += run / 8 * 288;
    const uint8_t* scales = head + 32 + run % 8 * 32;
    const __m512 d = Halves(head);
    return {_mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(Load16(scales)))),
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(Load16(scales + 16))))};
  }
}

// Chunks [kChunk, kEnd) of code * x for kRows rows, all rows of a chunk before the next: chains of additions that do
// not wait for each other. x is the first row's run, the next rows' are `runs` further.
template <class K, int kRows, int kChunk, int kEnd>
TAIPAN_VNNI_INLINE void AddChunks(const ActivationRun* x, int64_t runs, const uint8_t* high, const uint8_t* low,
                                  __m512i table, __m512i* of_high, __m512i* of_low) {
  const __m512i w = Codes<K, kChunk>(high, low, table);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    int32_t four;
    std::memcpy(&four, x[r * runs].high + 4 * kChunk, 4);
    of_high[r] = _mm512_dpbusd_epi32(of_high[r], w, _mm512_set1_epi32(four));
    std::memcpy(&four, x[r * runs].low + 4 * kChunk, 4);
    of_low[r] = _mm512_dpbusd_epi32(of_low[r], w, _mm512_set1_epi32(four));
  }
  if constexpr (kChunk + 1 < kEnd) AddChunks<K, kRows, kChunk + 1, kEnd>(x, runs, high, low, table, of_high, of_low);
}

// sums[r] += scale_r scales * (sum over chunks [kBegin, kEnd) of (code - bias) * x), the sum exactly.
template <class K, int kRows, int kBegin, int kEnd>
TAIPAN_VNNI_INLINE void AddRun(const ActivationRun* x, int64_t runs, const uint8_t* high, const uint8_t* low,
                               __m512i table, __m512 scales, __m512* sums) {
  __m512i of_high[kRows], of_low[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const ActivationRun& a = x[r * runs];
    const int32_t total = kEnd - kBegin == kChunks ? a.sum[0] + a.sum[1] : a.sum[kBegin / 4];
    of_high[r] = _mm512_setzero_si512();
    of_low[r] = _mm512_set1_epi32(-K::kBias * total);
  }
  AddChunks<K, kRows, kBegin, kEnd>(x, runs, high, low, table, of_high, of_low);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(of_high[r], 7), of_low[r]);
    const __m512 factor = _mm512_mul_ps(scales, _mm512_set1_ps(x[r * runs].scale));
    sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), factor, sums[r]);
  }
}

template <class K, int kRows>
TAIPAN_VNNI void Group(const ActivationRun* x, int64_t runs, const QuantGroup& g, float* out) {
  const __m512i table = _mm512_broadcast_i32x4(Load16(kIq4Levels));
  __m512 sum[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sum[r] = _mm512_setzero_ps();
  ReadHeads(g.head, g.low);
  for (int64_t run = 0; run < runs; ++run, ++x) {
    const uint8_t *high = g.high + run * K::kHigh, *low = g.low + run * K::kLow;
    AskBehindBlocks(low, K::kLow);
    const RunScales scales = LoadScales<K>(g.head, run);
    if constexpr (K::kScales == Scales::kHalfRuns) {
      AddRun<K, kRows, 0, kChunks / 2>(x, runs, high, low, table, scales.first, sum);
      AddRun<K, kRows, kChunks / 2, kChunks>(x, runs, high, low, table, scales.second, sum);
    } else {
      AddRun<K, kRows, 0, kChunks>(x, runs, high, low, table, scales.first, sum);
    }
    if constexpr (K::kScales == Scales::kWithMin || K::kScales == Scales::kK) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const ActivationRun& a = x[r * runs];
        const __m512 lift = _mm512_set1_ps(a.scale * static_cast<float>(a.sum[0] + a.sum[1]));
        sum[r] = K::kScales == Scales::kK ? _mm512_fnmadd_ps(scales.second, lift, sum[r])
                                          : _mm512_fmadd_ps(scales.second, lift, sum[r]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(out + r * kQuantRows, sum[r]);
}

template <class K>
TAIPAN_VNNI void Rows(const ActivationRun* x, int64_t rows, int64_t runs, const QuantGroup& g, float* out) {
  switch (rows) {
    case 1:
      return Group<K, 1>(x, runs, g, out);
    case 2:
      return Group<K, 2>(x, runs, g, out);
    case 3:
      return Group<K, 3>(x, runs, g, out);
    case 4:
      return Group<K, 4>(x, runs, g, out);
    case 8:  // a tenth faster than twice four
      return Group<K, 8>(x, runs, g, out);
    default:  // the codes are taken apart a second time, which is less than half of the work then
      Group<K, 4>(x, runs, g, out);
      return Rows<K>(x + 4 * runs, rows - 4, runs, g, out + 4 * kQuantRows);
  }
}

}  // namespace

bool HasAvx512Vnni() {
  static const bool has = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

void QuantGroupVnni(const ActivationRun* x, int64_t rows, const QuantMatrixView& w, int64_t group, float* out) {
  const QuantGroup g = w.Group(group);
  const int64_t runs = w.cols / kQuantRun;
  switch (w.type) {
    case GgmlType::kQ8_0:
      return Rows<Kind<8, 128, Scales::kOne>>(x, rows, runs, g, out);
    case GgmlType::kQ4_0:
      return Rows<Kind<4, 8, Scales::kOne>>(x, rows, runs, g, out);
    case GgmlType::kQ4_1:
      return Rows<Kind<4, 0, Scales::kWithMin>>(x, rows, runs, g, out);
    case GgmlType::kQ5_0:
      return Rows<Kind<5, 16, Scales::kOne>>(x, rows, runs, g, out);
    case GgmlType::kQ5_1:
      return Rows<Kind<5, 0, Scales::kWithMin>>(x, rows, runs, g, out);
    case GgmlType::kIQ4_NL:
      return Rows<Kind<4, 128, Scales::kOne, true>>(x, rows, runs, g, out);
    case GgmlType::kQ4_K:
      return Rows<Kind<4, 0, Scales::kK>>(x, rows, runs, g, out);
    case GgmlType::kQ5_K:
      return Rows<Kind<5, 0, Scales::kK>>(x, rows, runs, g, out);
    case GgmlType::kQ6_K:
      return Rows<Kind<6, 32, Scales::kHalfRuns>>(x, rows, runs, g, out);
    default:
      CHECK(false);
  }
}

}  // namespace taipan
#pragma GCC diagnostic pop

#else

namespace taipan {

bool HasAvx512Vnni() { return false; }
void QuantGroupVnni(const ActivationRun*, int64_t, const QuantMatrixView&, int64_t, float*) { CHECK(false); }

}  // namespace taipan
#endif
