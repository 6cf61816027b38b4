// Forward of attention with an online softmax over tiles of keys. A task owns a block of query rows and walks the key
// tiles that its queries see; each loaded tile serves the whole block, in pieces of kRows that stay in L1.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_forward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>
#include <limits>

#include "kernels/attention/attention_few.h"
#include "kernels/attention/attention_softmax-inl.h"

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
  float* acc;         // [R, dh]; with the next two: RowSums
  int64_t* position;  // [R]
  float* reference;   // [R]
  float* sum;         // [R, kLanes]
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

// Before the first tile.
template <class T>
void Begin(const ForwardArgs& a, const Block& block, int64_t rows, const ForwardScratch<T>& s) {
  CopyBlockRows(a.shape, block, rows, a.in.q, s.q);
  for (int64_t r = 0; r < rows; ++r) s.position[r] = a.in.positions[RowOf(a.shape, block, r).query];
  ClearSums(rows, {s.reference, s.sum, s.acc, a.shape.head_dim});
}

template <class T>
void ForwardBlockOf(const ForwardArgs& a, const Block& block, const ForwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, rows = block.count * (a.shape.heads / a.shape.kv_heads);
  const AttentionSegment& seg = *block.segment;
  Begin(a, block, rows, s);
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

int64_t Pieces(int64_t n, int64_t of) { return (n + of - 1) / of; }

// How many queries of a segment are a block. A row's bits do not depend on it.
struct Cutter {
  const ForwardArgs& a;
  int64_t queries;
  int64_t PiecesOf(const AttentionSegment& s) const {
    return IsOfFewQueries(a.in, s, a.lse) ? 0 : Pieces(s.count, queries);
  }
  int64_t Blocks() const {
    int64_t n = 0;
    for (const AttentionSegment& s : a.in.segments) n += PiecesOf(s) * a.shape.kv_heads;
    return n;
  }
};

// Less in a block where there would be too few for the threads.
Cutter ChooseCut(const ForwardArgs& a) {
  const int64_t group = a.shape.heads / a.shape.kv_heads, enough = NumThreads() == 1 ? 1 : 4 * NumThreads();
  int64_t rows = kBlockRows;
  Cutter cutter{a, std::max<int64_t>(1, rows / group)};
  while (rows > kRows && cutter.Blocks() < enough) {
    rows /= 2;
    cutter.queries = std::max<int64_t>(1, rows / group);
  }
  return cutter;
}

// Late blocks see most keys: they come first, so that the threads end together.
int64_t ListBlocks(const Cutter& cutter, Block* out) {
  int64_t longest = 0, n = 0;
  for (const AttentionSegment& s : cutter.a.in.segments) longest = std::max(longest, cutter.PiecesOf(s));
  for (int64_t block = longest - 1; block >= 0; --block) {
    for (const AttentionSegment& s : cutter.a.in.segments) {
      if (block >= cutter.PiecesOf(s)) continue;
      const int64_t at = block * cutter.queries;
      for (int64_t head = 0; head < cutter.a.shape.kv_heads; ++head) {
        out[n++] = {&s, head, s.begin + at, std::min(cutter.queries, s.count - at)};
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
  const ForwardArgs args{shape, in, out, lse};
  if (lse == nullptr) AttendFewQueries(shape, in, out, scratch);
  const Cutter cutter = ChooseCut(args);
  Block* blocks = scratch.Array<Block>(cutter.Blocks());
  const int64_t count = ListBlocks(cutter, blocks), group = shape.heads / shape.kv_heads;
  int64_t rows = 1;
  for (int64_t i = 0; i < count; ++i) rows = std::max(rows, blocks[i].count * group);
  Carver size(nullptr);
  WithElementType(in.q.dtype, [&](auto t) { ForwardScratch<decltype(t)>(shape, rows, size); });
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * size.used()));
  ParallelFor(count, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.q.dtype);
    RunForwardBlock(args, blocks[task], rows, buffers + thread * size.used());
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
