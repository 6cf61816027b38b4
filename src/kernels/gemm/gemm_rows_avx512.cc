#include "kernels/gemm/gemm_rows_avx512.h"

#include "base/error.h"
#include "kernels/gemm/gemm_rows.h"
#include "kernels/gemm/read_ahead.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

// GCC 12 takes the lanes that its own intrinsics leave open for an oversight.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define TAIPAN_AVX512BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace taipan {
namespace {

constexpr int64_t kPairs = 32;  // elements of a vector

TAIPAN_AVX512BF16 inline __m512bh LoadPart(const BF16* p, __mmask32 mask) {
  return (__m512bh)_mm512_maskz_loadu_epi16(mask, p);
}
TAIPAN_AVX512BF16 inline __m512bh Load(const BF16* p) { return (__m512bh)_mm512_loadu_si512(p); }

// sums[r * n] = x_r . w for kRows rows of x. Two chains a row, so that additions overlap.
template <int kRows>
TAIPAN_AVX512BF16 void Dots(const ConstMatrixView& x, int64_t row, const BF16* w, int64_t n, float* sums) {
  const int64_t k = x.cols, stride = x.stride;
  const BF16* rows = x.As<BF16>(row);
  __m512 even[kRows], odd[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 2 * kPairs <= k; i += 2 * kPairs) {
    // Further ahead brings several rows 1.1 to 1.2 times the rate, and would cost one row a tenth (Zen 4).
    AskBehindBlocks(reinterpret_cast<const uint8_t*>(w + i), 128, kRows < 4 ? 2048 : 4096);
    const __m512bh a = Load(w + i), b = Load(w + i + kPairs);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      even[r] = _mm512_dpbf16_ps(even[r], a, Load(rows + r * stride + i));
      odd[r] = _mm512_dpbf16_ps(odd[r], b, Load(rows + r * stride + i + kPairs));
    }
  }
  for (; i < k; i += kPairs) {
    const auto mask = static_cast<__mmask32>(k - i >= kPairs ? ~0u : (1u << (k - i)) - 1);
    const __m512bh a = LoadPart(w + i, mask);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) even[r] = _mm512_dpbf16_ps(even[r], a, LoadPart(rows + r * stride + i, mask));
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r * n] = _mm512_reduce_add_ps(_mm512_add_ps(even[r], odd[r]));
}

}  // namespace

void FewRowsSumsAvx512BF16(ConstMatrixView x, ConstMatrixView w, float* sums) {
  const int64_t n = w.rows;
  for (int64_t i = 0; i < n; ++i) {
    const BF16* row = w.As<BF16>(i);
    int64_t r = 0;
    if (x.rows == kFewRows) Dots<8>(x, r, row, n, sums + i), r = kFewRows;
    for (; r + 4 <= x.rows; r += 4) Dots<4>(x, r, row, n, sums + r * n + i);
    for (; r + 2 <= x.rows; r += 2) Dots<2>(x, r, row, n, sums + r * n + i);
    for (; r < x.rows; ++r) Dots<1>(x, r, row, n, sums + r * n + i);
  }
}

}  // namespace taipan
#pragma GCC diagnostic pop

#else

namespace taipan {

void FewRowsSumsAvx512BF16(ConstMatrixView, ConstMatrixView, float*) { CHECK(false); }

}  // namespace taipan
#endif
