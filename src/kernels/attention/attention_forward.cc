// Forward of attention with an online softmax over tiles of keys. A task owns a block of query rows and walks the key
// tiles that its queries see; each loaded tile serves the whole block, in pieces of kRows that stay in L1.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_forward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>
#include <limits>

#include "kernels/attention/attention_internal.h"
#include "kernels/attention/attention_tile-inl.h"

#ifndef TAIPAN_ATTENTION_FORWARD_ONCE_
#define TAIPAN_ATTENTION_FORWARD_ONCE_
namespace taipan::attention {

constexpr int64_t kRows = 32;        // rows whose scores are in L1 at once
constexpr int64_t kBlockRows = 512;  // rows that share the loading of a key tile

struct ForwardArgs {
  const AttentionShape& shape;
  const AttentionInputs& in;
  MatrixView out;
  float* lse;
};

// Scratch of one thread: R rows of a block.
template <class T>
struct ForwardScratch {
  using PackedT = std::conditional_t<std::is_same_v<T, float>, float, uint32_t>;
  ForwardScratch(const AttentionShape& shape, int64_t rows, Carver& from) {
    const int64_t dh = PaddedDim(shape), tile = kKeyTile * dh;
    q = from.Take<T>(rows * dh);
    acc = from.Take<float>(rows * dh);
    position = from.Take<int64_t>(rows);
    reference = from.Take<float>(rows);
    sum = from.Take<float>(rows * kLanes);
    gathered = from.Take<T>(tile);
    kt = from.Take<PackedT>(tile);
    v = from.Take<PackedT>(tile);
    scores = from.Take<float>(kRows * kKeyTile);
    p = from.Take<T>(kRows * kKeyTile);
  }
  T* q;               // [R, dh]
  float* acc;         // [R, dh] sums of probability times value
  int64_t* position;  // [R]
  float* reference;   // [R] what the exponents of 2 are relative to: the row's largest score or a little less
  float* sum;         // [R, kLanes] probabilities by lane
  T* gathered;        // [kKeyTile, dh] keys or values that do not lie in one piece
  PackedT *kt, *v;    // the tile
  float* scores;      // [kRows, kKeyTile]
  T* p;               // [kRows, kKeyTile]
};

}  // namespace taipan::attention
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {

// What a row has summed so far (ForwardScratch).
struct RowSums {
  float *reference, *sum, *acc;
  int64_t dh;
};

// A row's new reference, which rescales its sums.
HWY_INLINE void RaiseReference(float reference, RowSums row) {
  const float scale = std::exp2(*row.reference - reference);  // 0 at the row's first tile
  *row.reference = reference;
  if (scale == 0.0f) {
    std::memset(row.sum, 0, kLanes * sizeof(float));
    std::memset(row.acc, 0, static_cast<size_t>(row.dh) * sizeof(float));
  } else {
    TileScale(kLanes, scale, row.sum, row.sum);
    TileScale(row.dh, scale, row.acc, row.acc);
  }
}

// Scores of one row -> 2^(score * scale - reference) in p, over `columns`. The reference rises only when a score
// exceeds it by kSlack: probabilities relative to it stay below 2^kSlack, and most tiles rescale nothing.
template <class T, bool kMasked>
HWY_INLINE void SoftmaxRow(Columns columns, Columns seen, float scale, const float* scores, T* p, RowSums row) {
  constexpr float kSlack = 8.0f;
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  Vec top = lowest;
  for (int64_t j = columns.begin; j < columns.end; j += 2 * lanes) {
    Vec a = hn::LoadU(d, scores + j), b = hn::LoadU(d, scores + j + lanes);
    if constexpr (kMasked) {
      a = hn::IfThenElse(SeenLanes(d, seen, j), a, lowest);
      b = hn::IfThenElse(SeenLanes(d, seen, j + lanes), b, lowest);
    }
    top = hn::Max(top, hn::Max(a, b));
  }
  const Vec factor = hn::Set(d, scale);
  if (!hn::AllFalse(d, hn::Gt(hn::Mul(top, factor), hn::Set(d, *row.reference + kSlack)))) {
    RaiseReference(hn::GetLane(hn::MaxOfLanes(d, top)) * scale, row);
  }
  const Vec shift = hn::Set(d, *row.reference);
  Vec total = hn::LoadU(d, row.sum);
  for (int64_t j = columns.begin; j < columns.end; j += 2 * lanes) {
    Vec a = Exp2<T>(d, hn::MulSub(hn::LoadU(d, scores + j), factor, shift));
    Vec b = Exp2<T>(d, hn::MulSub(hn::LoadU(d, scores + j + lanes), factor, shift));
    if constexpr (kMasked) {
      a = hn::IfThenElseZero(SeenLanes(d, seen, j), a);
      b = hn::IfThenElseZero(SeenLanes(d, seen, j + lanes), b);
    }
    total = hn::Add(total, hn::Add(a, b));
    StoreTwo(d, a, b, p + j);
  }
  hn::StoreU(total, d, row.sum);
}

// The tile at `position`, of a segment's `keys`.
template <class T>
struct LoadedTile {
  KeyRange keys;
  int64_t position;
  Right<T> kt, v;
};

// Rows [begin, begin + count) of the block against the tile.
template <class T>
void ForwardRows(const ForwardArgs& a, const LoadedTile<T>& tile, int64_t begin, int64_t count,
                 const ForwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, stride = PaddedDim(a.shape);
  const Trimmed part = Trim(a.shape, tile.keys, tile.position, s.position[begin], s.position[begin + count - 1]);
  if (part.empty()) return;
  const Columns c = part.columns;
  const int64_t n = c.end - c.begin;
  const float scale = ScoreScale(a.shape, 1.44269504f);  // log2(e): exponents of 2
  Multiply({count, n, dh}, {s.q + begin * stride, stride}, tile.kt.From(0, c.begin), {s.scores + c.begin, kKeyTile});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t r = begin + i;
    const float* scores = s.scores + i * kKeyTile;
    T* p = s.p + i * kKeyTile;
    const RowSums sums = {s.reference + r, s.sum + r * kLanes, s.acc + r * dh, dh};
    if (part.full) {
      SoftmaxRow<T, false>(c, {}, scale, scores, p, sums);
      continue;
    }
    const Columns seen = SeenColumns(a.shape, tile.keys, tile.position, s.position[r], s.position[r]);
    if (seen.begin >= seen.end) {
      std::fill_n(p + c.begin, n, T());
    } else {
      SoftmaxRow<T, true>(c, seen, scale, scores, p, sums);
    }
  }
  Multiply({count, dh, n}, {s.p + c.begin, kKeyTile}, tile.v.From(c.begin, 0), {s.acc + begin * dh, dh, true});
}

template <class T>
void Finish(const ForwardArgs& a, const Block& block, int64_t rows, const ForwardScratch<T>& s) {
  const Tag d;
  const int64_t dh = a.shape.head_dim;
  for (int64_t r = 0; r < rows; ++r) {
    const Row row = RowOf(a.shape, block, r);
    const float sum = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, s.sum + r * kLanes)));
    StoreScaled(dh, 1.0f / sum, s.acc + r * dh, a.out.As<T>(row.query) + row.head * dh);
    if (a.lse != nullptr) {
      a.lse[row.query * a.shape.heads + row.head] = s.reference[r] * 0.693147181f + std::log(sum);
    }
  }
}

template <class T>
void ForwardBlockOf(const ForwardArgs& a, const Block& block, const ForwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, rows = block.count * (a.shape.heads / a.shape.kv_heads);
  CopyBlockRows(a.shape, block, rows, a.in.q, s.q);
  for (int64_t r = 0; r < rows; ++r) {
    s.position[r] = a.in.positions[RowOf(a.shape, block, r).query];
    s.reference[r] = -std::numeric_limits<float>::infinity();
  }
  std::memset(s.acc, 0, static_cast<size_t>(rows * dh) * sizeof(float));
  std::memset(s.sum, 0, static_cast<size_t>(rows * kLanes) * sizeof(float));
  const AttentionSegment& seg = *block.segment;
  const KeyRange keys = Positions(seg);
  const KeyRange range = Visible(a.shape, keys, s.position[0], s.position[rows - 1]);
  for (int64_t tile = range.first; tile < range.end; tile += kKeyTile) {
    const KeyTile at = {a.shape, seg, block.kv_head, tile, range.end};
    const LoadedTile<T> loaded = {.keys = keys,  // in this order: they share the buffer
                                  .position = tile,
                                  .kt = PackTransposed(dh, FindTile(at, false, s.gathered), s.kt),
                                  .v = PackRows(kKeyTile, dh, FindTile(at, true, s.gathered), s.v)};
    const NextTile<T> next(at);
    for (int64_t r = 0; r < rows; r += kRows) {
      next.Fetch(r / kRows, (rows + kRows - 1) / kRows);
      ForwardRows(a, loaded, r, std::min(kRows, rows - r), s);
    }
  }
  Finish(a, block, rows, s);
}

void ForwardBlock(const ForwardArgs& a, const Block& block, int64_t rows, void* scratch) {
  Carver carver(scratch);
  WithElementType(a.in.q.dtype,
                  [&](auto t) { ForwardBlockOf(a, block, ForwardScratch<decltype(t)>(a.shape, rows, carver)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace attention {
HWY_EXPORT(ForwardBlock);

// The dispatch needs this namespace where there is one target only.
template <class... Args>
void RunForwardBlock(const Args&... args) {
  HWY_DYNAMIC_DISPATCH(ForwardBlock)(args...);
}

namespace {

int64_t CountBlocks(std::span<const AttentionSegment> segments, int64_t kv_heads, int64_t queries) {
  int64_t n = 0;
  for (const AttentionSegment& s : segments) n += (s.count + queries - 1) / queries * kv_heads;
  return n;
}

// Queries of a block: fewer where there would be too few blocks for the threads. A row's bits do not depend on it.
int64_t QueriesOfBlock(const AttentionShape& shape, std::span<const AttentionSegment> segments) {
  const int64_t group = shape.heads / shape.kv_heads, enough = NumThreads() == 1 ? 1 : 4 * NumThreads();
  int64_t rows = kBlockRows;
  const auto queries = [&] { return std::max<int64_t>(1, rows / group); };
  while (rows > kRows && CountBlocks(segments, shape.kv_heads, queries()) < enough) rows /= 2;
  return queries();
}

// Late blocks see most keys: they come first, so that the threads end together.
int64_t ListBlocks(std::span<const AttentionSegment> segments, int64_t kv_heads, int64_t queries, Block* out) {
  int64_t longest = 0, n = 0;
  for (const AttentionSegment& s : segments) longest = std::max(longest, (s.count + queries - 1) / queries);
  for (int64_t block = longest - 1; block >= 0; --block) {
    for (const AttentionSegment& s : segments) {
      const int64_t at = block * queries;
      for (int64_t head = 0; at < s.count && head < kv_heads; ++head) {
        out[n++] = {&s, head, s.begin + at, std::min(queries, s.count - at)};
      }
    }
  }
  return n;
}

}  // namespace
}  // namespace attention

void AttentionForward(const AttentionShape& shape, const AttentionInputs& in, MatrixView out, float* lse,
                      Arena& scratch) {
  using namespace attention;  // NOLINT: this file's own parts
  CHECK_EQ(in.q.cols, shape.heads * shape.head_dim);
  CHECK_EQ(shape.heads % shape.kv_heads, 0);
  CHECK(in.q.dtype == out.dtype);
  Arena::Scope scope(scratch);
  const int64_t queries = QueriesOfBlock(shape, in.segments), rows = queries * (shape.heads / shape.kv_heads);
  Block* blocks = scratch.Array<Block>(CountBlocks(in.segments, shape.kv_heads, queries));
  const int64_t count = ListBlocks(in.segments, shape.kv_heads, queries, blocks);
  Carver size(nullptr);
  WithElementType(in.q.dtype, [&](auto t) { ForwardScratch<decltype(t)>(shape, rows, size); });
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * size.used()));
  const ForwardArgs args{shape, in, out, lse};
  ParallelFor(count, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.q.dtype);
    RunForwardBlock(args, blocks[task], rows, buffers + thread * size.used());
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
