// The tile products of the SSD in the two element types of x: floats, and bf16 in packed pairs with sums in f32.
// Include after highway.h within a foreach_target file (hence no ordinary include guard).
#if defined(TAIPAN_SSD_OPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_SSD_OPS_INL_H_
#undef TAIPAN_SSD_OPS_INL_H_
#else
#define TAIPAN_SSD_OPS_INL_H_
#endif

#include <cmath>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/gemm/tile_bf16.h"
#include "kernels/gemm/tile_gemm-inl.h"
#include "kernels/simd-inl.h"
#include "kernels/ssd/ssd_internal.h"

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

// Rows `stride` elements apart, row i times scale[i]; scale null: 1.
template <class T>
struct ScaledRows {
  const T* data;
  int64_t stride;
  const float* scale = nullptr;
};

template <class T>
struct Ops;

// Left operands A[m, k] and right operands B[k, n] of Product. A right operand is packed; packed as B it serves as the
// left operand of its transpose.
template <>
struct Ops<float> {
  using Packed = float;
  using Left = TileA;
  static int64_t PackedRows(int64_t k) { return k; }
  static Left Rows(const float* data, int64_t stride) { return {data, stride, 1}; }
  static Left PackedTransposed(const float* packed, int64_t stride) { return {packed, 1, stride}; }
  static void Product(TileShape shape, Left a, TileB<Packed> b, TileC c) { TileGemm(shape, a, b, c); }
  // B[k, n] = from[k, n].
  static void Pack(int64_t k, int64_t n, ScaledRows<float> from, float* to, int64_t ld_to) {
    for (int64_t i = 0; i < k; ++i) {
      TileScale(n, from.scale ? from.scale[i] : 1.0f, from.data + i * from.stride, to + i * ld_to);
    }
  }
  // B[k, n] = transpose of from[n, k].
  static void PackTransposed(int64_t k, int64_t n, const float* from, int64_t ld, float* to, int64_t ld_to) {
    TileTranspose(n, k, from, ld, to, ld_to);
  }
};

template <>
struct Ops<BF16> {
  using Packed = uint32_t;
  using Left = TilePairs;
  static int64_t PackedRows(int64_t k) { return (k + 1) / 2; }
  static Left Rows(const BF16* data, int64_t stride) { return PairsOfRows(data, stride); }
  static Left PackedTransposed(const uint32_t* packed, int64_t stride) {
    return PairsOfPackedTransposed(packed, stride);
  }
  static void Product(TileShape shape, Left a, TileB<Packed> b, TileC c) {
    TileGemmBF16({shape.m, shape.n, (shape.k + 1) / 2 * 2}, a, b, c);
  }
  template <class From>
  static void Pack(int64_t k, int64_t n, ScaledRows<From> from, uint32_t* to, int64_t ld_to) {
    const float* scale = from.scale;
    if (scale == nullptr) return PackPairs(k, n, from.data, from.stride, to, ld_to);
    const FloatTag d;
    for (int64_t i = 0; i < k; i += 2) {
      const bool pair = i + 1 < k;
      const From *low = from.data + i * from.stride, *high = pair ? low + from.stride : low;
      const auto low_scale = hn::Set(d, scale[i]), high_scale = hn::Set(d, pair ? scale[i + 1] : 0.0f);
      uint32_t* out = to + i / 2 * ld_to;
      ForVectors(d, n, [&](int64_t j, auto part) HWY_ATTR {
        const FloatVec even = hn::Mul(Load(d, low + j, part), low_scale);
        const FloatVec odd = hn::Mul(Load(d, high + j, part), high_scale);
        StorePairs(d, even, odd, out + j, part);
      });
    }
  }
  template <class From>
  static void PackTransposed(int64_t k, int64_t n, const From* from, int64_t ld, uint32_t* to, int64_t ld_to) {
    PackPairsTransposed(k, n, from, ld, to, ld_to);
  }

 private:
  template <class P>
  static HWY_INLINE void StorePairs(FloatTag d, FloatVec even, FloatVec odd, uint32_t* to, P part) {
    Store(hn::BitCast(d, BF16Pairs(d, even, odd)), d, reinterpret_cast<float*>(to), part);
  }
};

// One chunk's decay of a head; dt is read with its stride. Sums in double, exponentials in float.
HWY_INLINE void ChunkDecay(const SsdInputs& in, const Chunk& c, int64_t head, Decay out) {
  const FloatTag d;
  const double a = in.A[head];
  double cum = 0;
  const float* dt = in.dt.F32(c.begin) + head;
  for (int64_t i = 0; i < c.length; ++i) {
    out.dt[i] = dt[i * in.dt.stride];
    cum += static_cast<double>(out.dt[i]) * a;
    out.cum[i] = static_cast<float>(cum);
  }
  double rest = 0;
  for (int64_t i = c.length; i-- > 0;) {
    out.to_end[i] = static_cast<float>(rest);
    rest += static_cast<double>(out.dt[i]) * a;
  }
  ForVectors(d, c.length, [&](int64_t i, auto part) HWY_ATTR {
    Store(ExpOfNegative(d, Load(d, out.cum + i, part)), d, out.from_start + i, part);
    Store(ExpOfNegative(d, Load(d, out.to_end + i, part)), d, out.to_end + i, part);
  });
}

// to[k, n] = from[k, n], element types as they are.
template <class From, class To>
HWY_INLINE void ScaleRows(int64_t k, int64_t n, ScaledRows<From> from, To* to, int64_t ld_to) {
  const FloatTag d;
  for (int64_t i = 0; i < k; ++i) {
    const auto s = hn::Set(d, from.scale[i]);
    ForVectors(d, n, [&](int64_t j, auto part) HWY_ATTR {
      Store(hn::Mul(Load(d, from.data + i * from.stride + j, part), s), d, to + i * ld_to + j, part);
    });
  }
}

template <class X, class Y>
HWY_INLINE float DotOf(int64_t n, const X* x, const Y* y) {
  const FloatTag d;
  FloatVec sum = hn::Zero(d);
  ForVectors(d, n,
             [&](int64_t i, auto part) HWY_ATTR { sum = hn::MulAdd(Load(d, x + i, part), Load(d, y + i, part), sum); });
  return SumLanes(d, sum);
}

// state [N, W] columns of one head <- decay * itself.
HWY_INLINE void ScaleHeadState(int64_t n, int64_t p, int64_t width, float decay, float* state) {
  for (int64_t i = 0; i < n; ++i) TileScale(p, decay, state + i * width, state + i * width);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#endif
