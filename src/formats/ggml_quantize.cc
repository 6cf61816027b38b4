#include "formats/ggml_quantize.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "formats/ggml_round.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace taipan {
namespace {

constexpr int64_t kTaskElements = int64_t{1} << 16;  // a multiple of every block length

// kFirstOut: the least float that rounds to infinity.
template <class Stored, Stored (*kNarrow)(float), uint32_t kFirstOut>
bool Narrow(const float* from, int64_t n, uint8_t* to) {
  constexpr uint32_t kInfinity = 0x7f800000;
  uint32_t out = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Stored half = kNarrow(from[i]);
    std::memcpy(to + i * static_cast<int64_t>(sizeof half), &half, sizeof half);
    const uint32_t magnitude = std::bit_cast<uint32_t>(from[i]) & 0x7fffffffu;
    out |= static_cast<uint32_t>(magnitude - kFirstOut < kInfinity - kFirstOut);  // wraps below kFirstOut
  }
  return out == 0;
}
constexpr auto NarrowF16 = Narrow<F16, ToF16, std::bit_cast<uint32_t>(65520.0f)>;
constexpr auto NarrowBF16 = Narrow<BF16, ToBF16, std::bit_cast<uint32_t>(0x1.ffp127f)>;

// d = max |x| / 127 as f16, but q = round(x / d) with the d before rounding, halves away from zero: as ggml does.
bool NarrowQ8_0(const float* from, int64_t n, uint8_t* to) {
  bool fits = true;
  for (int64_t block = 0; block < n; block += 32, from += 32, to += 34) {
    uint32_t most = 0;  // bits of |x| order like |x|, and not-a-number comes last
    for (int i = 0; i < 32; ++i) most = std::max(most, std::bit_cast<uint32_t>(from[i]) & 0x7fffffffu);
    const float d = std::bit_cast<float>(most) / 127.0f;
    fits &= d < 65520.0f;  // false for what is not a number, too
    if (!fits) return false;
    const F16 half = ToF16(d);
    std::memcpy(to, &half, sizeof half);
    const float reciprocal = 1.0f / d;  // infinite for zero and the smallest floats, whose f16 is zero
    const float inverse = std::isinf(reciprocal) ? 0.0f : reciprocal;
    for (int i = 0; i < 32; ++i) {
      const float scaled = std::abs(from[i] * inverse);
      const int whole = static_cast<int>(scaled);
      const int rounded = whole + (scaled - static_cast<float>(whole) >= 0.5f ? 1 : 0);
      to[2 + i] = static_cast<uint8_t>(from[i] < 0 ? -rounded : rounded);
    }
  }
  return fits;
}

bool CopyF32(const float* from, int64_t n, uint8_t* to) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n) * sizeof *from);
  return true;
}

}  // namespace

bool CanQuantize(GgmlType type) {
  return type == GgmlType::kF32 || type == GgmlType::kF16 || type == GgmlType::kBF16 || type == GgmlType::kQ8_0 ||
         CanRound(type);
}

bool Quantize(GgmlType type, const float* from, int64_t n, void* to) {
  CHECK(CanQuantize(type));
  const int64_t elements = BlockElements(type), bytes = BlockBytes(type);
  CHECK_EQ(n % elements, 0);
  bool (*const narrow)(const float*, int64_t, uint8_t*) = type == GgmlType::kF32    ? CopyF32
                                                          : type == GgmlType::kF16  ? NarrowF16
                                                          : type == GgmlType::kBF16 ? NarrowBF16
                                                          : type == GgmlType::kQ8_0 ? NarrowQ8_0
                                                                                    : nullptr;
  std::atomic<bool> fits = true;
  ParallelForRanges(n, kTaskElements, [&](int64_t begin, int64_t end) {
    uint8_t* out = static_cast<uint8_t*>(to) + begin / elements * bytes;
    const bool in_range = narrow != nullptr ? narrow(from + begin, end - begin, out)
                                            : RoundToBlocks(type, from + begin, end - begin, out);
    if (!in_range) fits = false;
  });
  return fits;
}

}  // namespace taipan
