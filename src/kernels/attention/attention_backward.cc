// Backward of attention (docs/math/selective_attention.md): probabilities are computed again from the saved
// log-sum-exp. A task owns a range of a segment's queries under one key head and walks them in chunks, each against the
// key tiles that it sees. The first range adds to the key gradients; the others keep partial sums, which are added in
// order at the end. Ranges follow from the shape alone, so the sums have one order.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>

#include "kernels/attention/attention_internal.h"
#include "kernels/attention/attention_tile-inl.h"

#ifndef TAIPAN_ATTENTION_BACKWARD_ONCE_
#define TAIPAN_ATTENTION_BACKWARD_ONCE_
namespace taipan::attention {

constexpr int64_t kBackwardRows = 64;  // rows whose scores and their gradients are in cache at once
constexpr int64_t kChunkRows = 512;    // rows that share the loading of a key tile

struct BackwardArgs {
  const AttentionShape& shape;
  const AttentionInputs& in;
  ConstMatrixView out;
  const float* lse;
  const AttentionGradients& gradients;
};

// A range of queries under one key head. `partial` [2, end - first, dh]: its sums of the keys' and the values'
// gradients; null: they go to the segment's key gradients.
struct BackwardTask {
  Block queries;
  KeyRange keys;  // visible ones
  float* partial;
};

// Scratch of one thread: R rows of a chunk, S = kBackwardRows, K = kKeyTile.
template <class T>
struct BackwardScratch {
  using PackedT = std::conditional_t<std::is_same_v<T, float>, float, uint32_t>;
  BackwardScratch(const AttentionShape& shape, int64_t rows, Carver& from) {
    const int64_t dh = PaddedDim(shape), tile = kKeyTile * dh, scores = kBackwardRows * kKeyTile;
    rows += rows % 2;
    for (T** x : {&q, &dout}) *x = from.Take<T>(rows * dh);
    for (PackedT** x : {&q_packed, &dout_packed}) *x = from.Take<PackedT>(rows * dh);
    dq = from.Take<float>(rows * dh);
    position = from.Take<int64_t>(rows);
    for (float** x : {&lse, &delta}) *x = from.Take<float>(rows);
    for (T** x : {&k_gathered, &v_gathered}) *x = from.Take<T>(tile);
    for (PackedT** x : {&k, &kt, &vt}) *x = from.Take<PackedT>(tile);
    for (float** x : {&dk, &dv}) *x = from.Take<float>(tile);
    for (float** x : {&p, &dp}) *x = from.Take<float>(scores);
    for (PackedT** x : {&p_packed, &ds_packed}) *x = from.Take<PackedT>(scores);
    ds = from.Take<T>(scores);
  }
  T *q, *dout;                      // [R, dh]
  PackedT *q_packed, *dout_packed;  // [R, dh] as right operands
  float* dq;                        // [R, dh]
  int64_t* position;                // [R]
  float* lse;                       // [R] to the base 2
  float* delta;                     // [R] <dout, out>
  T *k_gathered, *v_gathered;       // [K, dh] where they do not lie in one piece
  PackedT *k, *kt, *vt;             // [K, dh], [dh, K], [dh, K] as right operands
  float *dk, *dv;                   // [K, dh]
  float *p, *dp;                    // [S, K] scores and the gradients of the probabilities
  PackedT *p_packed, *ds_packed;    // [S, K] probabilities and gradients of the scores: left operands when transposed
  T* ds;                            // [S, K]
};

}  // namespace taipan::attention
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {

template <class T>
HWY_INLINE float Dot(int64_t n, const T* a, const T* b) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vec sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::MulAdd(LoadFloats(d, a + i), LoadFloats(d, b + i), sum);
  if (i < n) sum = hn::MulAdd(LoadPartial(d, a + i, n - i, 0.0f), LoadPartial(d, b + i, n - i, 0.0f), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Rows of the chunk and what belongs to them. An odd count is followed by a row of zeros, which completes the last
// pair.
template <class T>
void LoadChunk(const BackwardArgs& a, const Block& chunk, int64_t rows, const BackwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, stride = PaddedDim(a.shape);
  CopyBlockRows(a.shape, chunk, rows, a.in.q, s.q);
  CopyBlockRows(a.shape, chunk, rows, a.gradients.dout, s.dout);
  for (int64_t r = 0; r < rows; ++r) {
    const Row row = RowOf(a.shape, chunk, r);
    s.position[r] = a.in.positions[row.query];
    s.lse[r] = a.lse[row.query * a.shape.heads + row.head] * 1.44269504f;
    s.delta[r] = Dot(dh, a.out.As<T>(row.query) + row.head * dh, s.dout + r * stride);
  }
  std::memset(s.dq, 0, static_cast<size_t>(rows * dh) * sizeof(float));
}

// The tile at `position`, of a segment's `keys`, and the chunk's rows as right operands.
template <class T>
struct TileOperands {
  KeyRange keys;
  int64_t position;
  Right<T> k, kt, vt;
  Right<T> q, dout;
};

struct ScoreRow {
  Columns seen;
  float lse, delta;
  const float *scores, *dp;
};
// Of one row over columns [j, j + lanes): probability, and the gradient of the score.
struct RowValues {
  Vec p, ds;
};
template <class T, bool kMasked>
HWY_INLINE RowValues ValuesAt(Tag d, int64_t j, Vec scale, ScoreRow row) {
  Vec p = Exp2<T>(d, hn::MulSub(hn::LoadU(d, row.scores + j), scale, hn::Set(d, row.lse)));
  if constexpr (kMasked) p = hn::IfThenElseZero(SeenLanes(d, row.seen, j), p);
  return {p, hn::Mul(p, hn::Sub(hn::LoadU(d, row.dp + j), hn::Set(d, row.delta)))};
}

// Of the two rows (the second may not exist) whose scores are rows i and i + 1 of s.p: columns `c` of p and dp become
// probabilities and gradients of the scores.
template <class T, bool kMasked>
HWY_INLINE void ScoreGradients(float score_scale, Columns c, ScoreRow row0, const ScoreRow* row1, int64_t i,
                               const BackwardScratch<T>& s) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec scale = hn::Set(d, score_scale);
  const int64_t at0 = i * kKeyTile, at1 = at0 + kKeyTile;
  const bool second = row1 != nullptr;
  for (int64_t j = c.begin; j < c.end; j += 2 * lanes) {
    RowValues x[2], y[2];
    for (int64_t v = 0; v < 2; ++v) {
      x[v] = ValuesAt<T, kMasked>(d, j + v * lanes, scale, row0);
      y[v] = {hn::Zero(d), hn::Zero(d)};
      if (second) y[v] = ValuesAt<T, kMasked>(d, j + v * lanes, scale, *row1);
    }
    if constexpr (std::is_same_v<T, float>) {
      StoreTwo(d, x[0].p, x[1].p, s.p_packed + at0 + j);
      StoreTwo(d, x[0].ds, x[1].ds, s.ds_packed + at0 + j);
      if (second) StoreTwo(d, y[0].p, y[1].p, s.p_packed + at1 + j);
      if (second) StoreTwo(d, y[0].ds, y[1].ds, s.ds_packed + at1 + j);
    } else {
      for (int64_t v = 0; v < 2; ++v) {
        StorePairs(d, x[v].p, y[v].p, s.p_packed + at0 / 2 + j + v * lanes);
        StorePairs(d, x[v].ds, y[v].ds, s.ds_packed + at0 / 2 + j + v * lanes);
      }
      StoreTwo(d, x[0].ds, x[1].ds, s.ds + at0 + j);
      if (second) StoreTwo(d, y[0].ds, y[1].ds, s.ds + at1 + j);
    }
  }
}

// Rows [begin, begin + count) of the chunk (begin even) against the tile: adds to dq, dk, dv.
template <class T>
void BackwardRows(const BackwardArgs& a, const TileOperands<T>& in, int64_t begin, int64_t count,
                  const BackwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, stride = PaddedDim(a.shape);
  const Trimmed part = Trim(a.shape, in.keys, in.position, s.position[begin], s.position[begin + count - 1]);
  if (part.empty()) return;
  constexpr int64_t kHalf = kBackwardRows / 2;
  if (!part.full && count > kHalf) {  // fewer rows see less of the tile
    BackwardRows(a, in, begin, kHalf, s);
    return BackwardRows(a, in, begin + kHalf, count - kHalf, s);
  }
  const Columns c = part.columns;
  const int64_t n = c.end - c.begin;
  Multiply({count, n, dh}, {s.q + begin * stride, stride}, in.kt.From(0, c.begin), {s.p + c.begin, kKeyTile});
  Multiply({count, n, dh}, {s.dout + begin * stride, stride}, in.vt.From(0, c.begin), {s.dp + c.begin, kKeyTile});
  const float scale = ScoreScale(a.shape, 1.44269504f);
  const auto row_at = [&](int64_t i) {
    const int64_t r = begin + i, position = s.position[r];
    const Columns seen = part.full ? Columns{} : SeenColumns(a.shape, in.keys, in.position, position, position);
    return ScoreRow{seen, s.lse[r], s.delta[r], s.p + i * kKeyTile, s.dp + i * kKeyTile};
  };
  for (int64_t i = 0; i < count; i += 2) {
    const bool second = i + 1 < count;
    const ScoreRow row0 = row_at(i), row1 = row_at(second ? i + 1 : i);
    if (part.full) {
      ScoreGradients<T, false>(scale, c, row0, second ? &row1 : nullptr, i, s);
    } else {
      ScoreGradients<T, true>(scale, c, row0, second ? &row1 : nullptr, i, s);
    }
  }
  const Right<T> p = {s.p_packed + c.begin, kKeyTile}, ds = {s.ds_packed + c.begin, kKeyTile};
  MultiplyTransposed({n, dh, count}, p, in.dout.From(begin, 0), {s.dv + c.begin * dh, dh, true});
  MultiplyTransposed({n, dh, count}, ds, in.q.From(begin, 0), {s.dk + c.begin * dh, dh, true});
  const T* ds_rows = s.ds + c.begin;
  if constexpr (std::is_same_v<T, float>) ds_rows = ds.data;
  Multiply({count, dh, n}, {ds_rows, kKeyTile}, in.k.From(c.begin, 0), {s.dq + begin * dh, dh, true});
}

// Adds the tile's gradients where they belong.
template <class T>
void StoreKeyGradients(const BackwardArgs& a, const BackwardTask& task, int64_t tile, const BackwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, end = std::min(tile + kKeyTile, task.keys.end);
  const float scale = ScoreScale(a.shape);
  if (task.partial != nullptr) {
    const int64_t all = (task.keys.end - task.keys.first) * dh, from = (tile - task.keys.first) * dh;
    TileAxpy((end - tile) * dh, scale, s.dk, task.partial + from);
    TileAxpy((end - tile) * dh, 1.0f, s.dv, task.partial + all + from);
    return;
  }
  const AttentionSegment& seg = *task.queries.segment;
  for (size_t i = 0; i < seg.keys.size(); ++i) {
    const KeySpan& span = seg.keys[i];
    const KeyGradientSpan& to = seg.key_gradients[i];
    const int64_t last = std::min(span.position + span.count, end);
    for (int64_t at = std::max(span.position, tile); at < last; ++at) {
      const int64_t offset = (at - span.position) * span.stride + task.queries.kv_head * dh, from = (at - tile) * dh;
      if (to.dk != nullptr) TileAxpy(dh, scale, s.dk + from, to.dk + offset);
      if (to.dv != nullptr) TileAxpy(dh, 1.0f, s.dv + from, to.dv + offset);
    }
  }
}

template <class T>
void BackwardChunk(const BackwardArgs& a, const BackwardTask& task, const Block& chunk, const BackwardScratch<T>& s) {
  const AttentionSegment& seg = *chunk.segment;
  const int64_t dh = a.shape.head_dim, stride = PaddedDim(a.shape);
  const int64_t rows = chunk.count * (a.shape.heads / a.shape.kv_heads);
  LoadChunk(a, chunk, rows, s);
  const Right<T> q = PackRows(rows, dh, TileRows<T>{s.q, stride}, s.q_packed);
  const Right<T> dout = PackRows(rows, dh, TileRows<T>{s.dout, stride}, s.dout_packed);
  const KeyRange keys = Positions(seg), range = Visible(a.shape, keys, s.position[0], s.position[rows - 1]);
  for (int64_t tile = range.first; tile < range.end; tile += kKeyTile) {
    const KeyTile at = {a.shape, seg, chunk.kv_head, tile, range.end};
    const TileRows<T> k = FindTile(at, false, s.k_gathered), v = FindTile(at, true, s.v_gathered);
    const TileOperands<T> in = {.keys = keys,
                                .position = tile,
                                .k = PackRows(kKeyTile, dh, k, s.k),
                                .kt = PackTransposed(dh, k, s.kt),
                                .vt = PackTransposed(dh, v, s.vt),
                                .q = q,
                                .dout = dout};
    for (float* zero : {s.dk, s.dv}) std::memset(zero, 0, static_cast<size_t>(dh * kKeyTile) * sizeof(float));
    const NextTile<T> next(at);
    for (int64_t r = 0; r < rows; r += kBackwardRows) {
      next.Fetch(r / kBackwardRows, (rows + kBackwardRows - 1) / kBackwardRows);
      BackwardRows(a, in, r, std::min(kBackwardRows, rows - r), s);
    }
    StoreKeyGradients(a, task, tile, s);
  }
  const float scale = ScoreScale(a.shape);
  for (int64_t r = 0; r < rows; ++r) {
    const Row row = RowOf(a.shape, chunk, r);
    StoreScaled(dh, scale, s.dq + r * dh, a.gradients.dq.As<T>(row.query) + row.head * dh);
  }
}

void BackwardRange(const BackwardArgs& a, const BackwardTask& task, int64_t chunk_queries, void* scratch) {
  Carver carver(scratch);
  const int64_t rows = chunk_queries * (a.shape.heads / a.shape.kv_heads);
  const auto run = [&](const auto& s) {
    for (int64_t at = 0; at < task.queries.count; at += chunk_queries) {
      Block chunk = task.queries;
      chunk.begin += at;
      chunk.count = std::min(chunk_queries, task.queries.count - at);
      BackwardChunk(a, task, chunk, s);
    }
  };
  WithElementType(a.in.q.dtype, [&](auto t) { run(BackwardScratch<decltype(t)>(a.shape, rows, carver)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace attention {
HWY_EXPORT(BackwardRange);

// The dispatch needs this namespace where there is one target only.
template <class... Args>
void RunBackwardRange(const Args&... args) {
  HWY_DYNAMIC_DISPATCH(BackwardRange)(args...);
}

namespace {

// Ranges that a segment's queries are cut into: enough tasks with few key heads, at least a chunk in each.
constexpr int64_t kTasks = 16;
int64_t RangesOf(const AttentionShape& shape, int64_t queries, int64_t chunk_queries) {
  const int64_t chunks = (queries + chunk_queries - 1) / chunk_queries;
  return std::clamp<int64_t>((kTasks + shape.kv_heads - 1) / shape.kv_heads, 1, std::max<int64_t>(chunks, 1));
}

// Tasks of range `index` of a segment, one a key head; the first range has no partial sums.
void ListRange(const BackwardArgs& a, const AttentionSegment& seg, int64_t index, int64_t chunk_queries, Arena& scratch,
               BackwardTask* out) {
  const int64_t chunks = (seg.count + chunk_queries - 1) / chunk_queries;
  const int64_t ranges = RangesOf(a.shape, seg.count, chunk_queries);
  const int64_t begin = index * chunks / ranges * chunk_queries;
  const int64_t end = std::min((index + 1) * chunks / ranges * chunk_queries, seg.count);
  const KeyRange keys =
      Visible(a.shape, Positions(seg), a.in.positions[seg.begin + begin], a.in.positions[seg.begin + end - 1]);
  const int64_t size = 2 * std::max<int64_t>(keys.end - keys.first, 0) * a.shape.head_dim;
  for (int64_t head = 0; head < a.shape.kv_heads; ++head) {
    out[head] = {{&seg, head, seg.begin + begin, end - begin}, keys, index > 0 ? scratch.Floats(size) : nullptr};
  }
}

// Adds a task's partial sums for the keys at positions [begin, end).
void AddPartial(const AttentionShape& shape, const BackwardTask& task, int64_t begin, int64_t end) {
  const AttentionSegment& seg = *task.queries.segment;
  const int64_t dh = shape.head_dim, all = (task.keys.end - task.keys.first) * dh;
  for (size_t i = 0; i < seg.keys.size(); ++i) {
    const KeySpan& span = seg.keys[i];
    const KeyGradientSpan& to = seg.key_gradients[i];
    const int64_t last = std::min({span.position + span.count, task.keys.end, end});
    for (int64_t at = std::max({span.position, task.keys.first, begin}); at < last; ++at) {
      const int64_t offset = (at - span.position) * span.stride + task.queries.kv_head * dh;
      const float* from = task.partial + (at - task.keys.first) * dh;
      for (int64_t c = 0; to.dk != nullptr && c < dh; ++c) to.dk[offset + c] += from[c];
      for (int64_t c = 0; to.dv != nullptr && c < dh; ++c) to.dv[offset + c] += from[all + c];
    }
  }
}

// All partial sums in the order of their ranges: the tasks backwards. Parallel over segments, heads and keys.
void AddPartials(const AttentionShape& shape, std::span<const AttentionSegment> segments,
                 std::span<const BackwardTask> tasks) {
  constexpr int64_t kKeys = 1024;
  for (const AttentionSegment& seg : segments) {
    const KeyRange keys = Positions(seg);
    const int64_t parts = (keys.end - keys.first + kKeys - 1) / kKeys;
    if (seg.count == 0) continue;
    ParallelFor(parts * shape.kv_heads, [&](int64_t i) {
      const int64_t head = i / parts, begin = keys.first + i % parts * kKeys;
      for (auto task = tasks.rbegin(); task != tasks.rend(); ++task) {
        const Block& b = task->queries;
        if (task->partial == nullptr || b.segment != &seg || b.kv_head != head) continue;
        AddPartial(shape, *task, begin, begin + kKeys);
      }
    });
  }
}

}  // namespace
}  // namespace attention

void AttentionBackward(const AttentionShape& shape, const AttentionInputs& in, ConstMatrixView out, const float* lse,
                       const AttentionGradients& gradients, Arena& scratch) {
  using namespace attention;  // NOLINT: this file's own parts
  const DType dtype = in.q.dtype;
  CHECK(dtype == out.dtype && dtype == gradients.dout.dtype && dtype == gradients.dq.dtype);
  Arena::Scope scope(scratch);
  const BackwardArgs args{shape, in, out, lse, gradients};
  const int64_t group = shape.heads / shape.kv_heads, chunk = std::max<int64_t>(1, kChunkRows / group);
  int64_t most = 0, count = 0;
  for (const AttentionSegment& s : in.segments) most = std::max(most, RangesOf(shape, s.count, chunk));
  BackwardTask* tasks = scratch.Array<BackwardTask>(most * static_cast<int64_t>(in.segments.size()) * shape.kv_heads);
  for (int64_t range = most - 1; range >= 0; --range) {  // late ranges see most keys: they come first
    for (const AttentionSegment& s : in.segments) {
      if (s.count == 0 || range >= RangesOf(shape, s.count, chunk)) continue;
      ListRange(args, s, range, chunk, scratch, tasks + count);
      count += shape.kv_heads;
    }
  }
  Carver size(nullptr);
  WithElementType(dtype, [&](auto t) { BackwardScratch<decltype(t)>(shape, chunk * group, size); });
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * size.used()));
  ParallelFor(count, [&](int64_t i, int thread) {
    const BackwardTask& task = tasks[i];
    if (task.partial != nullptr) {
      const int64_t floats = 2 * (task.keys.end - task.keys.first) * shape.head_dim;
      std::memset(task.partial, 0, static_cast<size_t>(floats) * sizeof(float));
    }
    const ManyTileProducts products(dtype);
    RunBackwardRange(args, task, chunk, buffers + thread * size.used());
  });
  AddPartials(shape, in.segments, {tasks, static_cast<size_t>(count)});
}

}  // namespace taipan
#endif  // HWY_ONCE
