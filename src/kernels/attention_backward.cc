// Backward of attention (docs/math/selective_attention.md): probabilities are computed again from the saved
// log-sum-exp. One task per (segment, key head) walks its key tiles; sums have a fixed order.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_backward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>

#include "base/parallel.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/attention_internal.h"
#include "kernels/tile_gemm-inl.h"

#ifndef TAIPAN_ATTENTION_BACKWARD_ONCE_
#define TAIPAN_ATTENTION_BACKWARD_ONCE_
namespace taipan::attention {

struct BackwardArgs {
  const AttentionShape& shape;
  ConstMatrixView q;
  const int64_t* positions;
  ConstMatrixView out;
  const float* lse;
  ConstMatrixView dout;
  MatrixView dq;
  const float* delta;  // [n, heads]: <dout, out>
};

// Scratch of one thread: R rows of a query tile, K = kKeyTile.
struct BackwardScratch {
  float *k, *kt, *vt;  // [K, dh], [dh, K], [dh, K]
  float *dk, *dv;      // [K, dh]
  float *q, *dout;     // [R, dh]; q scaled by 1 / sqrt(dh)
  float *p, *dp;       // [R, K]
  float* dq;           // [R, dh]
};

}  // namespace taipan::attention
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

void Deltas(const BackwardArgs& a, int64_t row, float* delta) {
  const int64_t dh = a.shape.head_dim;
  for (int64_t h = 0; h < a.shape.heads; ++h) delta[h] = TileDot(dh, a.out.F32(row) + h * dh, a.dout.F32(row) + h * dh);
}

// p <- exp(score - lse) where seen, else 0; dp <- p * (dp - delta): the gradient of the scores.
void ScoreGradientRow(Columns seen, float lse, float delta, float* p, float* dp) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto iota = hn::Iota(d, 0.0f);
  const auto begin = hn::Set(d, static_cast<float>(seen.begin)), end = hn::Set(d, static_cast<float>(seen.end));
  for (int64_t j = 0; j < kKeyTile; j += lanes) {
    const auto column = hn::Add(iota, hn::Set(d, static_cast<float>(j)));
    const auto visible = hn::And(hn::Ge(column, begin), hn::Lt(column, end));
    const auto value = hn::Exp(d, hn::Sub(hn::LoadU(d, p + j), hn::Set(d, lse)));
    const auto probability = hn::IfThenElseZero(visible, value);
    hn::StoreU(probability, d, p + j);
    hn::StoreU(hn::Mul(probability, hn::Sub(hn::LoadU(d, dp + j), hn::Set(d, delta))), d, dp + j);
  }
}

void LoadKeyTile(const AttentionShape& shape, const AttentionSegment& seg, int64_t kv_head, int64_t tile, int64_t limit,
                 const BackwardScratch& s) {
  const int64_t dh = shape.head_dim;
  for (float* zero : {s.k, s.kt, s.vt, s.dk, s.dv}) std::memset(zero, 0, static_cast<size_t>(dh * kKeyTile) * 4);
  ForTileRuns(seg, tile, limit, [&](size_t index, int64_t row, int64_t column, int64_t count) {
    const KeySpan& span = seg.keys[index];
    const float* k = span.k + row * span.stride + kv_head * dh;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(s.k + (column + i) * dh, k + i * span.stride, static_cast<size_t>(dh) * 4);
    TileTranspose(count, dh, k, span.stride, s.kt + column, kKeyTile);
    TileTranspose(count, dh, span.v + row * span.stride + kv_head * dh, span.stride, s.vt + column, kKeyTile);
  });
}

// One query tile against the loaded key tile: adds to dq (in the output), s.dk, s.dv.
void BackwardQueries(const BackwardArgs& a, KeyRange keys, const QueryTile& t, int64_t tile, const BackwardScratch& s) {
  const int64_t dh = a.shape.head_dim, group = a.shape.heads / a.shape.kv_heads, rows = t.count * group;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dh));
  const auto head = [&](int64_t row) { return t.kv_head * group + row % group; };
  for (int64_t r = 0; r < rows; ++r) {
    TileScale(dh, scale, a.q.F32(t.begin + r / group) + head(r) * dh, s.q + r * dh);
    std::memcpy(s.dout + r * dh, a.dout.F32(t.begin + r / group) + head(r) * dh, static_cast<size_t>(dh) * 4);
  }
  TileGemm(rows, kKeyTile, dh, {s.q, dh, 1}, s.kt, kKeyTile, s.p, kKeyTile, false);
  TileGemm(rows, kKeyTile, dh, {s.dout, dh, 1}, s.vt, kKeyTile, s.dp, kKeyTile, false);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = (t.begin + r / group) * a.shape.heads + head(r);
    const Columns seen = SeenColumns(a.shape, keys, tile, a.positions[t.begin + r / group]);
    ScoreGradientRow(seen, a.lse[at], a.delta[at], s.p + r * kKeyTile, s.dp + r * kKeyTile);
  }
  TileGemm(kKeyTile, dh, rows, {s.p, 1, kKeyTile}, s.dout, dh, s.dv, dh, true);
  TileGemm(kKeyTile, dh, rows, {s.dp, 1, kKeyTile}, s.q, dh, s.dk, dh, true);
  TileGemm(rows, dh, kKeyTile, {s.dp, kKeyTile, 1}, s.k, dh, s.dq, dh, false);
  for (int64_t r = 0; r < rows; ++r) {
    TileAxpy(dh, scale, s.dq + r * dh, a.dq.F32(t.begin + r / group) + head(r) * dh);
  }
}

void StoreKeyGradients(const AttentionShape& shape, const AttentionSegment& seg, int64_t kv_head, int64_t tile,
                       int64_t limit, const BackwardScratch& s) {
  const int64_t dh = shape.head_dim;
  ForTileRuns(seg, tile, limit, [&](size_t index, int64_t row, int64_t column, int64_t count) {
    const KeyGradientSpan& to = seg.key_gradients[index];
    const int64_t stride = seg.keys[index].stride;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t offset = (row + i) * stride + kv_head * dh;
      if (to.dk != nullptr) TileAxpy(dh, 1.0f, s.dk + (column + i) * dh, to.dk + offset);
      if (to.dv != nullptr) TileAxpy(dh, 1.0f, s.dv + (column + i) * dh, to.dv + offset);
    }
  });
}

void BackwardKeyHead(const BackwardArgs& a, const AttentionSegment& seg, int64_t kv_head, const BackwardScratch& s) {
  if (seg.count == 0) return;
  const int64_t per_tile = QueriesPerTile(a.shape), end = seg.begin + seg.count;
  const KeyRange keys = Positions(seg);
  const KeyRange range = Visible(a.shape, keys, a.positions[seg.begin], a.positions[end - 1]);
  for (int64_t tile = range.first; tile < range.end; tile += kKeyTile) {
    // Queries that see something of the tile: positions in [tile, tile + K - 1 + window - 1].
    const int64_t* first = std::lower_bound(a.positions + seg.begin, a.positions + end, std::max(tile, keys.first));
    const int64_t* last = a.positions + end;
    if (a.shape.window > 0) last = std::lower_bound(first, last, tile + kKeyTile - 1 + a.shape.window);
    if (first == last) continue;
    LoadKeyTile(a.shape, seg, kv_head, tile, range.end, s);
    for (int64_t q0 = first - a.positions; q0 < last - a.positions; q0 += per_tile) {
      BackwardQueries(a, keys, {0, kv_head, q0, std::min<int64_t>(per_tile, last - a.positions - q0)}, tile, s);
    }
    StoreKeyGradients(a.shape, seg, kv_head, tile, range.end, s);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace attention {
HWY_EXPORT(Deltas);
HWY_EXPORT(BackwardKeyHead);
}  // namespace attention

void AttentionBackward(const AttentionShape& shape, ConstMatrixView q, const int64_t* positions,
                       std::span<const AttentionSegment> segments, ConstMatrixView out, const float* lse,
                       ConstMatrixView dout, MatrixView dq, Arena& scratch) {
  using namespace attention;  // NOLINT: this file's own parts
  Arena::Scope scope(scratch);
  dq.Zero();
  float* delta = scratch.Floats(q.rows * shape.heads);
  const BackwardArgs args{shape, q, positions, out, lse, dout, dq, delta};
  ParallelForRanges(q.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) HWY_DYNAMIC_DISPATCH(Deltas)(args, r, delta + r * shape.heads);
  });
  const int64_t rows = QueriesPerTile(shape) * (shape.heads / shape.kv_heads), dh = shape.head_dim;
  const int64_t per_thread = 5 * kKeyTile * dh + 3 * rows * dh + 2 * rows * kKeyTile;
  float* buffers = scratch.Floats(NumThreads() * per_thread);
  ParallelFor(static_cast<int64_t>(segments.size()) * shape.kv_heads, [&](int64_t task, int thread) {
    float* at = buffers + thread * per_thread;
    const auto take = [&](int64_t floats) {
      float* here = at;
      at += floats;
      return here;
    };
    BackwardScratch s;
    for (float** p : {&s.k, &s.kt, &s.vt, &s.dk, &s.dv}) *p = take(kKeyTile * dh);
    for (float** p : {&s.q, &s.dout, &s.dq}) *p = take(rows * dh);
    for (float** p : {&s.p, &s.dp}) *p = take(rows * kKeyTile);
    const AttentionSegment& seg = segments[static_cast<size_t>(task / shape.kv_heads)];
    HWY_DYNAMIC_DISPATCH(BackwardKeyHead)(args, seg, task % shape.kv_heads, s);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
