// Forward of attention with an online softmax over tiles of keys.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_forward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/attention_internal.h"
#include "kernels/tile_gemm-inl.h"

#ifndef TAIPAN_ATTENTION_FORWARD_ONCE_
#define TAIPAN_ATTENTION_FORWARD_ONCE_
namespace taipan::attention {

struct ForwardArgs {
  const AttentionShape& shape;
  ConstMatrixView q;
  const int64_t* positions;
  MatrixView out;
  float* lse;
};

// Scratch of one thread: R rows of a query tile.
struct ForwardScratch {
  float* q;    // [R, dh] scaled by 1 / sqrt(dh)
  float* acc;  // [R, dh]
  float* kt;   // [dh, kKeyTile]
  float* v;    // [kKeyTile, dh]
  float* p;    // [R, kKeyTile] scores, then probabilities
  float* max;  // [R]
  float* sum;  // [R]
};

}  // namespace taipan::attention
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

// Keys transposed and values of one tile; what does not exist is zero.
void LoadTile(const AttentionShape& shape, const AttentionSegment& seg, int64_t kv_head, int64_t tile, int64_t limit,
              float* kt, float* v) {
  const int64_t dh = shape.head_dim;
  const bool partial = tile + kKeyTile > limit || seg.keys.front().position > tile;
  if (partial) std::memset(kt, 0, static_cast<size_t>(dh * kKeyTile) * 4);
  if (partial) std::memset(v, 0, static_cast<size_t>(dh * kKeyTile) * 4);
  ForTileRuns(seg, tile, limit, [&](size_t span, int64_t row, int64_t column, int64_t count) {
    const KeySpan& s = seg.keys[span];
    TileTranspose(count, dh, s.k + row * s.stride + kv_head * dh, s.stride, kt + column, kKeyTile);
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(v + (column + i) * dh, s.v + (row + i) * s.stride + kv_head * dh, static_cast<size_t>(dh) * 4);
    }
  });
}

// Scores of one row over the tile -> exp(score - max) in place; the row's maximum, sum and accumulator are rescaled.
void SoftmaxRow(Columns seen, int64_t dh, float* p, float* max, float* sum, float* acc) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto iota = hn::Iota(d, 0.0f);
  const auto minus_infinity = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto begin = hn::Set(d, static_cast<float>(seen.begin)), end = hn::Set(d, static_cast<float>(seen.end));
  const auto visible = [&](int64_t j) {
    const auto column = hn::Add(iota, hn::Set(d, static_cast<float>(j)));
    return hn::And(hn::Ge(column, begin), hn::Lt(column, end));
  };
  auto top = minus_infinity;
  for (int64_t j = 0; j < kKeyTile; j += lanes)
    top = hn::Max(top, hn::IfThenElse(visible(j), hn::LoadU(d, p + j), minus_infinity));
  const float new_max = std::max(*max, hn::GetLane(hn::MaxOfLanes(d, top)));
  const auto shift = hn::Set(d, new_max);
  auto total = hn::Zero(d);
  for (int64_t j = 0; j < kKeyTile; j += lanes) {
    const auto value = hn::Exp(d, hn::Sub(hn::LoadU(d, p + j), shift));
    const auto probability = hn::IfThenElseZero(visible(j), value);
    total = hn::Add(total, probability);
    hn::StoreU(probability, d, p + j);
  }
  const float scale = std::exp(*max - new_max);  // 0 at the row's first tile, whose maximum was -infinity
  *sum = *sum * scale + hn::GetLane(hn::SumOfLanes(d, total));
  *max = new_max;
  if (scale != 1.0f) TileScale(dh, scale, acc, acc);
}

void ForwardTile(const ForwardArgs& a, const AttentionSegment& seg, const QueryTile& t, const ForwardScratch& s) {
  const int64_t dh = a.shape.head_dim, group = a.shape.heads / a.shape.kv_heads, rows = t.count * group;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dh));
  const auto at = [&](int64_t row) { return (t.kv_head * group + row % group) * dh; };  // columns of a row's head
  for (int64_t r = 0; r < rows; ++r) {
    TileScale(dh, scale, a.q.F32(t.begin + r / group) + at(r), s.q + r * dh);
    std::memset(s.acc + r * dh, 0, static_cast<size_t>(dh) * 4);
    s.max[r] = -std::numeric_limits<float>::infinity();
    s.sum[r] = 0;
  }
  const KeyRange keys = Positions(seg);
  const KeyRange range = Visible(a.shape, keys, a.positions[t.begin], a.positions[t.begin + t.count - 1]);
  for (int64_t tile = range.first; tile < range.end; tile += kKeyTile) {
    LoadTile(a.shape, seg, t.kv_head, tile, range.end, s.kt, s.v);
    TileGemm(rows, kKeyTile, dh, {s.q, dh, 1}, s.kt, kKeyTile, s.p, kKeyTile, false);
    for (int64_t r = 0; r < rows; ++r) {
      const Columns seen = SeenColumns(a.shape, keys, tile, a.positions[t.begin + r / group]);
      if (seen.begin == seen.end) {
        std::memset(s.p + r * kKeyTile, 0, static_cast<size_t>(kKeyTile) * 4);
      } else {
        SoftmaxRow(seen, dh, s.p + r * kKeyTile, s.max + r, s.sum + r, s.acc + r * dh);
      }
    }
    TileGemm(rows, dh, kKeyTile, {s.p, kKeyTile, 1}, s.v, dh, s.acc, dh, true);
  }
  for (int64_t r = 0; r < rows; ++r) {
    TileScale(dh, 1.0f / s.sum[r], s.acc + r * dh, a.out.F32(t.begin + r / group) + at(r));
    if (a.lse != nullptr) {
      a.lse[(t.begin + r / group) * a.shape.heads + t.kv_head * group + r % group] = s.max[r] + std::log(s.sum[r]);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace attention {
HWY_EXPORT(ForwardTile);
}

void AttentionForward(const AttentionShape& shape, ConstMatrixView q, const int64_t* positions,
                      std::span<const AttentionSegment> segments, MatrixView out, float* lse, Arena& scratch) {
  using namespace attention;  // NOLINT: this file's own parts
  CHECK_EQ(q.cols, shape.heads * shape.head_dim);
  CHECK_EQ(shape.heads % shape.kv_heads, 0);
  Arena::Scope scope(scratch);
  const int64_t per_tile = QueriesPerTile(shape);
  int64_t count = 0;
  for (const AttentionSegment& s : segments) count += (s.count + per_tile - 1) / per_tile * shape.kv_heads;
  QueryTile* tiles = scratch.Array<QueryTile>(count);
  int64_t n = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      for (int64_t at = 0; at < segments[i].count; at += per_tile) {
        tiles[n++] = {static_cast<int64_t>(i), head, segments[i].begin + at,
                      std::min(per_tile, segments[i].count - at)};
      }
    }
  }
  const int64_t rows = per_tile * (shape.heads / shape.kv_heads), dh = shape.head_dim;
  const int64_t per_thread = 2 * rows * dh + 2 * dh * kKeyTile + rows * kKeyTile + 2 * rows;
  float* buffers = scratch.Floats(NumThreads() * per_thread);
  const ForwardArgs args{shape, q, positions, out, lse};
  ParallelFor(count, [&](int64_t task, int thread) {
    float* at = buffers + thread * per_thread;
    const auto take = [&](int64_t floats) {
      float* here = at;
      at += floats;
      return here;
    };
    ForwardScratch s;
    s.q = take(rows * dh);
    s.acc = take(rows * dh);
    s.kt = take(dh * kKeyTile);
    s.v = take(dh * kKeyTile);
    s.p = take(rows * kKeyTile);
    s.max = take(rows);
    s.sum = take(rows);
    HWY_DYNAMIC_DISPATCH(ForwardTile)(args, segments[static_cast<size_t>(tiles[task].segment)], tiles[task], s);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
