// Tiles of attention for float and BF16: loading keys and values, products, exponentials. Include after highway.h
// within a foreach_target file (hence no ordinary include guard).
#if defined(TAIPAN_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAIPAN_ATTENTION_TILE_INL_H_
#undef TAIPAN_ATTENTION_TILE_INL_H_
#else
#define TAIPAN_ATTENTION_TILE_INL_H_
#endif

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/attention/attention_internal.h"
#include "kernels/gemm/tile_bf16.h"
#include "kernels/gemm/tile_gemm-inl.h"
#include "kernels/partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

using Tag = hn::CappedTag<float, kLanes>;
using Vec = hn::Vec<Tag>;
using IntTag = hn::Rebind<uint32_t, Tag>;

// The right operand of a product: rows of floats, or packed pairs of rows (tile_bf16.h).
template <class T>
using Packed = std::conditional_t<std::is_same_v<T, float>, float, uint32_t>;
template <class T>
using Right = TileB<Packed<T>>;

// Rows of queries, keys or values, `stride` elements apart.
template <class T>
struct TileRows {
  const T* data;
  int64_t stride;
};

// C = or += A B with A row-major, or the transpose of a packed matrix.
HWY_INLINE void Multiply(TileShape shape, TileRows<float> a, Right<float> b, TileC c) {
  TileGemm(shape, {a.data, a.stride, 1}, b, c);
}
HWY_INLINE void Multiply(TileShape shape, TileRows<BF16> a, Right<BF16> b, TileC c) {
  TileGemmBF16({shape.m, shape.n, (shape.k + 1) / 2 * 2}, PairsOfRows(a.data, a.stride), b, c);
}
HWY_INLINE void MultiplyTransposed(TileShape shape, Right<float> a, Right<float> b, TileC c) {
  TileGemm(shape, {a.data, 1, a.stride}, b, c);
}
HWY_INLINE void MultiplyTransposed(TileShape shape, Right<BF16> a, Right<BF16> b, TileC c) {
  TileGemmBF16({shape.m, shape.n, (shape.k + 1) / 2 * 2}, PairsOfPackedTransposed(a.data, a.stride), b, c);
}

template <class To, class From>
HWY_INLINE void ConvertRow(int64_t n, const From* from, To* to) {
  if constexpr (std::is_same_v<To, From>) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(To));
  } else {
    const Tag d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) StoreFloats(LoadFloats(d, from + i), d, to + i);
    if (i < n) StorePartial(LoadPartial(d, from + i, n - i, 0.0f), d, to + i, n - i);
  }
}

// to = scale * from.
template <class To>
HWY_INLINE void ScaleIntegers(int64_t n, const int8_t* from, float scale, To* to) {
  const Tag d;
  const hn::Rebind<int8_t, Tag> d8;
  const hn::RebindToSigned<Tag> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vec x = hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, from + i)));
    StoreFloats(hn::Mul(factor, x), d, to + i);
  }
  for (; i < n; ++i) {
    const float x = scale * static_cast<float>(from[i]);
    if constexpr (std::is_same_v<To, float>) {
      to[i] = x;
    } else {
      to[i] = ToBF16(x);
    }
  }
}

// The span that holds position `tile` or the first one after it; the end where there is none.
HWY_INLINE const KeySpan* SpanAt(const AttentionSegment& seg, int64_t tile) {
  const KeySpan* const begin = seg.keys.data();
  return std::partition_point(begin, begin + seg.keys.size(),
                              [&](const KeySpan& s) { return s.position + s.count <= tile; });
}

// 64 positions of one key head from `tile` on; keys end at `end`.
struct KeyTile {
  const AttentionShape& shape;
  const AttentionSegment& seg;
  int64_t kv_head, tile, end;
};

// The tile's rows of keys or values where one span of T has them all; else no data.
template <class T>
TileRows<T> RowsInPlace(const KeyTile& at, bool values) {
  const KeySpan* s = SpanAt(at.seg, at.tile);
  if (s == at.seg.keys.data() + at.seg.keys.size() || s->dtype != kDTypeOf<T>) return {nullptr, 0};
  if (s->position > at.tile || s->position + s->count < at.tile + kKeyTile) return {nullptr, 0};
  const T* base = static_cast<const T*>(values ? s->v : s->k);
  return {base + (at.tile - s->position) * s->stride + at.kv_head * at.shape.head_dim, s->stride};
}

// Those rows, gathered in `buffer` [64, dh] where they are not in place, with zeros where there is nothing.
template <class T>
TileRows<T> FindTile(const KeyTile& key_tile, bool values, T* buffer) {
  if (const TileRows<T> rows = RowsInPlace<T>(key_tile, values); rows.data != nullptr) return rows;
  const auto& [shape, seg, kv_head, tile, keys_end] = key_tile;
  const int64_t dh = shape.head_dim, first = tile, tile_end = std::min(tile + kKeyTile, keys_end);
  int64_t at = first;
  const auto clear_to = [&](int64_t position) {
    if (at < position) std::fill_n(buffer + (at - first) * dh, (position - at) * dh, T());
    at = std::max(at, position);
  };
  const KeySpan* const end = seg.keys.data() + seg.keys.size();
  for (const KeySpan* s = SpanAt(seg, tile); s != end && s->position < tile_end; ++s) {
    clear_to(s->position);
    for (const int64_t last = std::min(s->position + s->count, tile_end); at < last; ++at) {
      const int64_t offset = (at - s->position) * s->stride + kv_head * dh;
      const void* base = values ? s->v : s->k;
      T* to = buffer + (at - tile) * dh;
      if (s->dtype == DType::kF32) {
        ConvertRow(dh, static_cast<const float*>(base) + offset, to);
      } else if (s->dtype == DType::kI8) {
        const float scale = (values ? s->v_scales : s->k_scales)[(at - s->position) * shape.kv_heads + kv_head];
        ScaleIntegers(dh, static_cast<const int8_t*>(base) + offset, scale, to);
      } else {
        ConvertRow(dh, static_cast<const BF16*>(base) + offset, to);
      }
    }
  }
  clear_to(tile + kKeyTile);
  return {buffer, dh};
}

// Brings the next tile's keys and values into the caches in steps while this one is worked on: their rows lie far
// apart, which no prefetcher of the hardware follows.
template <class T>
class NextTile {
 public:
  explicit NextTile(KeyTile at) : bytes_(at.shape.head_dim * static_cast<int64_t>(sizeof(T))) {
    at.tile += kKeyTile;
    for (const bool values : {false, true}) rows_[values] = RowsInPlace<T>(at, values);
  }

  // Share `step` of `steps`.
  HWY_INLINE void Fetch(int64_t step, int64_t steps) const {
    for (const TileRows<T>& rows : rows_) {
      if (rows.data == nullptr) continue;
      for (int64_t r = step * kKeyTile / steps; r < (step + 1) * kKeyTile / steps; ++r) {
        const char* row = reinterpret_cast<const char*>(rows.data + r * rows.stride);
        for (int64_t b = 0; b < bytes_; b += 64) hwy::Prefetch(row + b);
      }
    }
  }

 private:
  int64_t bytes_;
  TileRows<T> rows_[2];
};

// to[cols, rows] = transpose of from[rows, cols]; rows and ld_to are multiples of 4.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void TransposeRows(int64_t rows, int64_t cols, const float* from, int64_t ld_from, float* to,
                              int64_t ld_to) {
  TileTranspose(rows, cols, from, ld_from, to, ld_to);
}
#else
HWY_INLINE void TransposeRows(int64_t rows, int64_t cols, const float* from, int64_t ld_from, float* to,
                              int64_t ld_to) {
  const hn::Full128<float> d;
  const hn::Full128<double> dd;
  int64_t c = 0;
  for (int64_t r = 0; r < rows; r += 4) {
    const float* x = from + r * ld_from;
    for (c = 0; c + 4 <= cols; c += 4) {
      const auto r0 = hn::LoadU(d, x + c), r1 = hn::LoadU(d, x + ld_from + c);
      const auto r2 = hn::LoadU(d, x + 2 * ld_from + c), r3 = hn::LoadU(d, x + 3 * ld_from + c);
      const auto low01 = hn::BitCast(dd, hn::InterleaveLower(d, r0, r1));
      const auto low23 = hn::BitCast(dd, hn::InterleaveLower(d, r2, r3));
      const auto high01 = hn::BitCast(dd, hn::InterleaveUpper(d, r0, r1));
      const auto high23 = hn::BitCast(dd, hn::InterleaveUpper(d, r2, r3));
      float* y = to + c * ld_to + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, low01, low23)), d, y);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, low01, low23)), d, y + ld_to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, high01, high23)), d, y + 2 * ld_to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, high01, high23)), d, y + 3 * ld_to);
    }
  }
  if (c < cols) TileTranspose(rows, cols - c, from + c, ld_from, to + c * ld_to, ld_to);
}
#endif

// Right operands of a tile's 64 rows: as [dh, 64] and as [64, dh].
HWY_INLINE Right<float> PackTransposed(int64_t dh, TileRows<float> rows, float* to) {
  TransposeRows(kKeyTile, dh, rows.data, rows.stride, to, kKeyTile);
  return {to, kKeyTile};
}
HWY_INLINE Right<BF16> PackTransposed(int64_t dh, TileRows<BF16> rows, uint32_t* to) {
  PackPairsTransposed(dh, kKeyTile, rows.data, rows.stride, to, kKeyTile);
  return {to, kKeyTile};
}
HWY_INLINE Right<float> PackRows(int64_t, int64_t, TileRows<float> rows, float*) { return {rows.data, rows.stride}; }
HWY_INLINE Right<BF16> PackRows(int64_t n, int64_t dh, TileRows<BF16> rows, uint32_t* to) {
  PackPairs(n, dh, rows.data, rows.stride, to, dh);
  return {to, dh};
}

// 2^x for x <= 100, 0 for x < -100 (relative to a row's largest probability nothing), NaN for NaN. Relative error 8e-8
// for float; 3e-6 for BF16, whose rounding is 2^-9.
template <class T>
HWY_INLINE Vec Exp2(Tag d, Vec x) {
  const IntTag du;
  const Vec magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: adding it rounds to integers, kept in the low bits
  const Vec rounded = hn::Add(x, magic);
  const Vec f = hn::Sub(x, hn::Sub(rounded, magic));
  Vec p;
  if constexpr (std::is_same_v<T, float>) {
    p = hn::MulAdd(f, hn::Set(d, 0.00015353361959569156f), hn::Set(d, 0.0013398873852565885f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.00961843691766262f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.055503323674201965f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.24022647738456726f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.6931471824645996f));
  } else {
    p = hn::MulAdd(f, hn::Set(d, 0.009582852944731712f), hn::Set(d, 0.055906426161527634f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.24024099111557007f));
    p = hn::MulAdd(f, p, hn::Set(d, 0.6931241750717163f));
  }
  p = hn::MulAdd(f, p, hn::Set(d, 1.0f));
  const auto bits = hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(hn::BitCast(du, rounded)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -100.0f)), hn::BitCast(d, bits));
}

// Two vectors of adjacent values; to BF16 with ties away from zero. A NaN whose lower half is zero (all that come from
// bf16) stays one.
HWY_INLINE void StoreTwo(Tag d, Vec low, Vec high, float* to) {
  hn::StoreU(low, d, to);
  hn::StoreU(high, d, to + hn::Lanes(d));
}
HWY_INLINE void StoreTwo(Tag d, Vec low, Vec high, BF16* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = ToBF16(hn::GetLane(low));
  to[1] = ToBF16(hn::GetLane(high));
#else
  const IntTag du;
  const hn::Repartition<uint16_t, Tag> d16;
  const auto half = hn::Set(du, 0x8000u);
  const auto a = hn::BitCast(d16, hn::Add(hn::BitCast(du, low), half));
  const auto b = hn::BitCast(d16, hn::Add(hn::BitCast(du, high), half));
  hn::StoreU(hn::ConcatOdd(d16, b, a), d16, reinterpret_cast<uint16_t*>(to));
#endif
}

// The same for values of two rows as packed pairs.
HWY_INLINE void StorePairs(Tag d, Vec first, Vec second, uint32_t* to) {
  const IntTag du;
  const auto half = hn::Set(du, 0x8000u);
  const auto a = hn::ShiftRight<16>(hn::Add(hn::BitCast(du, first), half));
  const auto b = hn::And(hn::Add(hn::BitCast(du, second), half), hn::Set(du, 0xffff0000u));
  hn::StoreU(hn::Or(a, b), du, to);
}

// Which lanes of the vector at `column` a row sees.
HWY_INLINE hn::Mask<Tag> SeenLanes(Tag d, Columns seen, int64_t column) {
  const Vec at = hn::Add(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(column)));
  return hn::And(hn::Ge(at, hn::Set(d, static_cast<float>(seen.begin))),
                 hn::Lt(at, hn::Set(d, static_cast<float>(seen.end))));
}

// Rows of a block from a matrix [n, heads * dh] of T, each padded with a zero to an even length.
template <class T>
HWY_INLINE void CopyBlockRows(const AttentionShape& shape, const Block& block, int64_t rows, ConstMatrixView from,
                              T* to) {
  const int64_t dh = shape.head_dim, padded = PaddedDim(shape);
  for (int64_t r = 0; r < rows; ++r) {
    const Row row = RowOf(shape, block, r);
    std::memcpy(to + r * padded, from.As<T>(row.query) + row.head * dh, static_cast<size_t>(dh) * sizeof(T));
    if (padded > dh) to[r * padded + dh] = T();
  }
}

// Row r of a block, scaled, into a matrix of T.
template <class T>
HWY_INLINE void StoreScaled(int64_t n, float scale, const float* from, T* to) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreFloats(hn::Mul(s, hn::LoadU(d, from + i)), d, to + i);
  if (i < n) StorePartial(hn::Mul(s, LoadPartial(d, from + i, n - i, 0.0f)), d, to + i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#endif
