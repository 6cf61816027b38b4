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
#include "kernels/gemm/read_ahead.h"

#ifndef TAIPAN_ATTENTION_FORWARD_ONCE_
#define TAIPAN_ATTENTION_FORWARD_ONCE_
namespace taipan::attention {

constexpr int64_t kRows = 32;        // rows whose scores are in L1 at once
constexpr int64_t kFewQueries = 8;   // of a segment in bf16: packing a tile takes longer than reading it once for each
constexpr int64_t kBlockRows = 512;  // rows that share the loading of a key tile

struct ForwardArgs {
  const AttentionShape& shape;
  const AttentionInputs& in;
  MatrixView out;
  float* lse;
};

// Whether the queries of a segment are few enough to read keys and values as they lie. The sums differ in rounding from
// those of tiles; which a row gets depends on its own segment alone.
inline bool IsOfFewQueries(const ForwardArgs& a, const AttentionSegment& s) {
  return a.in.q.dtype == DType::kBF16 && s.count <= kFewQueries && a.lse == nullptr;
}

// Scratch of one thread: R rows of a block.
template <class T>
struct ForwardScratch {
  using PackedT = std::conditional_t<std::is_same_v<T, float>, float, uint32_t>;
  ForwardScratch(const AttentionShape& shape, int64_t rows, int64_t few_rows, Carver& from) {
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
    few_q = from.Take<float>(few_rows * dh);
    few_scores = from.Take<float>(few_rows * kKeyTile);
  }
  T* q;                       // [R, dh]
  float* acc;                 // [R, dh] sums of probability times value
  int64_t* position;          // [R]
  float* reference;           // [R] what the exponents of 2 are relative to: the row's largest score or a little less
  float* sum;                 // [R, kLanes] probabilities by lane
  T* gathered;                // [kKeyTile, dh] keys or values that do not lie in one piece
  PackedT *kt, *v;            // the tile
  float* scores;              // [kRows, kKeyTile]
  T* p;                       // [kRows, kKeyTile]
  float *few_q, *few_scores;  // of few queries: [R, dh] and [R, kKeyTile]
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

// Rows from `begin` on: those of the block.
template <class T>
void Finish(const ForwardArgs& a, const Block& block, int64_t begin, int64_t rows, const ForwardScratch<T>& s) {
  const Tag d;
  const int64_t dh = a.shape.head_dim;
  for (int64_t r = begin; r < begin + rows; ++r) {
    const Row row = RowOf(a.shape, block, r - begin);
    const float sum = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, s.sum + r * kLanes)));
    StoreScaled(dh, 1.0f / sum, s.acc + r * dh, a.out.As<T>(row.query) + row.head * dh);
    if (a.lse != nullptr) {
      a.lse[row.query * a.shape.heads + row.head] = s.reference[r] * 0.693147181f + std::log(sum);
    }
  }
}

// Rows from `begin` on become those of the block, before the first tile.
template <class T>
void Begin(const ForwardArgs& a, const Block& block, int64_t begin, int64_t rows, const ForwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim;
  CopyBlockRows(a.shape, block, rows, a.in.q, s.q + begin * PaddedDim(a.shape));
  for (int64_t r = 0; r < rows; ++r) {
    s.position[begin + r] = a.in.positions[RowOf(a.shape, block, r).query];
    s.reference[begin + r] = -std::numeric_limits<float>::infinity();
  }
  std::memset(s.acc + begin * dh, 0, static_cast<size_t>(rows * dh) * sizeof(float));
  std::memset(s.sum + begin * kLanes, 0, static_cast<size_t>(rows * kLanes) * sizeof(float));
}

// A block of few queries with some key heads, in f32. Keys and values are read where they lie, in that order: all
// heads' of a few tokens, then of the next ones.
class FewQueries {
 public:
  FewQueries(const ForwardArgs& a, const Block& block, const ForwardScratch<BF16>& s)
      : a_(a), block_(block), s_(s), dh_(a.shape.head_dim), rows_(block.count * (a.shape.heads / a.shape.kv_heads)) {}

  void Run() {
    const AttentionSegment& seg = *block_.segment;
    for (int64_t i = 0; i < block_.kv_heads; ++i) Begin(a_, Head(i), i * rows_, rows_, s_);
    for (int64_t r = 0; r < block_.kv_heads * rows_; ++r) {
      ConvertRow(dh_, s_.q + r * PaddedDim(a_.shape), s_.few_q + r * dh_);
    }
    const KeyRange range = Visible(a_.shape, Positions(seg), s_.position[0], s_.position[rows_ - 1]);
    for (int64_t tile = range.first; tile < range.end; tile += kKeyTile) Tile(tile, range.end);
    for (int64_t i = 0; i < block_.kv_heads; ++i) Finish(a_, Head(i), i * rows_, rows_, s_);
  }

 private:
  static constexpr int64_t kTokens = 8;  // whose keys of all heads are in L1
  static constexpr int64_t kAhead = 2 * kTokens;

  Block Head(int64_t i) const { return {block_.segment, block_.kv_head + i, block_.begin, block_.count}; }

  void Tile(int64_t tile, int64_t end) {
    const KeyRange keys = Positions(*block_.segment);
    const Trimmed part = Trim(a_.shape, keys, tile, s_.position[0], s_.position[rows_ - 1]);
    if (part.empty()) return;
    const KeyTile at = {a_.shape, *block_.segment, block_.kv_head, tile, end};
    const Columns all = part.columns;
    const TileRows<BF16> k = RowsInPlace<BF16>(at, false), v = RowsInPlace<BF16>(at, true);
    if (k.data == nullptr) {
      BF16* const values = reinterpret_cast<BF16*>(s_.kt);
      for (int64_t i = 0; i < block_.kv_heads; ++i) {
        const KeyTile of_head = {a_.shape, *block_.segment, block_.kv_head + i, tile, end};
        const TileRows<BF16> own_k = FindTile(of_head, false, s_.gathered), own_v = FindTile(of_head, true, values);
        for (int64_t j = all.begin; j < all.end; j += kTokens) Scores(i, own_k, j);
        Softmax(i, keys, tile, part);
        for (int64_t j = all.begin; j < all.end; j += kTokens) AddValues(i, own_v, j);
      }
      return;
    }
    const auto of = [&](TileRows<BF16> rows, int64_t i) { return TileRows<BF16>{rows.data + i * dh_, rows.stride}; };
    for (int64_t j = all.begin; j < all.end; j += kTokens) {
      for (int64_t i = 0; i < block_.kv_heads; ++i) {
        if (j + kAhead < all.end) {
          Ask(k, j + kAhead, i);
        } else {
          Ask(v, j + kAhead - all.end + all.begin, i);
        }
        Scores(i, of(k, i), j);
      }
    }
    for (int64_t i = 0; i < block_.kv_heads; ++i) Softmax(i, keys, tile, part);
    for (int64_t j = all.begin; j < all.end; j += kTokens) {
      for (int64_t i = 0; i < block_.kv_heads; ++i) {
        Ask(j + kAhead < all.end ? v : k, j + kAhead, i);
        AddValues(i, of(v, i), j);
      }
    }
  }

  // Asks memory for what head i has in the rows from j on.
  void Ask(TileRows<BF16> rows, int64_t j, int64_t i) const {
    for (int64_t t = j; t < j + kTokens; ++t) {
      AskForBlocks(reinterpret_cast<const uint8_t*>(rows.data + t * rows.stride + i * dh_), 2 * dh_);
    }
  }

  void Scores(int64_t i, TileRows<BF16> keys, int64_t j) const {
    for (int64_t r = i * rows_; r < (i + 1) * rows_; ++r) {
      ScoresInPlace(dh_, s_.few_q + r * dh_, keys, {j, j + kTokens}, s_.few_scores + r * kKeyTile);
    }
  }

  void Softmax(int64_t i, KeyRange keys, int64_t tile, const Trimmed& part) const {
    const float scale = ScoreScale(a_.shape, 1.44269504f);
    for (int64_t r = i * rows_; r < (i + 1) * rows_; ++r) {
      float* const scores = s_.few_scores + r * kKeyTile;
      const RowSums sums = {s_.reference + r, s_.sum + r * kLanes, s_.acc + r * dh_, dh_};
      const Columns c = part.columns, seen = SeenColumns(a_.shape, keys, tile, s_.position[r], s_.position[r]);
      if (part.full) {
        SoftmaxRow<float, false>(c, {}, scale, scores, scores, sums);
      } else if (seen.begin >= seen.end) {
        std::fill(scores + c.begin, scores + c.end, 0.0f);
      } else {
        SoftmaxRow<float, true>(c, seen, scale, scores, scores, sums);
      }
    }
  }

  void AddValues(int64_t i, TileRows<BF16> values, int64_t j) const {
    for (int64_t r = i * rows_; r < (i + 1) * rows_; ++r) {
      AddInPlace(dh_, s_.few_scores + r * kKeyTile, values, {j, j + kTokens}, s_.acc + r * dh_);
    }
  }

  const ForwardArgs& a_;
  const Block& block_;
  const ForwardScratch<BF16>& s_;
  const int64_t dh_, rows_;  // of a key head
};

template <class T>
void ForwardBlockOf(const ForwardArgs& a, const Block& block, const ForwardScratch<T>& s) {
  const int64_t dh = a.shape.head_dim, rows = block.count * (a.shape.heads / a.shape.kv_heads);
  const AttentionSegment& seg = *block.segment;
  if constexpr (std::is_same_v<T, BF16>) {
    if (IsOfFewQueries(a, seg)) return FewQueries(a, block, s).Run();
  }
  Begin(a, block, 0, rows, s);
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
  Finish(a, block, 0, rows, s);
}

void ForwardBlock(const ForwardArgs& a, const Block& block, int64_t rows, int64_t few_rows, void* scratch) {
  Carver carver(scratch);
  WithElementType(a.in.q.dtype, [&](auto t) {
    ForwardBlockOf(a, block, ForwardScratch<decltype(t)>(a.shape, rows, few_rows, carver));
  });
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

// How a segment is cut into blocks: queries, or of few queries all with some key heads. A row's bits do not depend on
// it.
struct Cut {
  int64_t queries, few_heads;
};
struct Cutter {
  const ForwardArgs& a;
  Cut cut;
  int64_t BlocksOf(const AttentionSegment& s) const {
    if (s.count == 0) return 0;
    if (IsOfFewQueries(a, s)) return Pieces(a.shape.kv_heads, cut.few_heads);
    return Pieces(s.count, cut.queries) * a.shape.kv_heads;
  }
  int64_t Blocks() const {
    int64_t n = 0;
    for (const AttentionSegment& s : a.in.segments) n += BlocksOf(s);
    return n;
  }
};

// Less in a block where there would be too few for the threads.
Cut ChooseCut(const ForwardArgs& a) {
  const int64_t group = a.shape.heads / a.shape.kv_heads, enough = NumThreads() == 1 ? 1 : 4 * NumThreads();
  int64_t rows = kBlockRows;
  Cutter cutter{a, {std::max<int64_t>(1, rows / group), a.shape.kv_heads}};
  while (rows > kRows && cutter.Blocks() < enough) {
    rows /= 2;
    cutter.cut.queries = std::max<int64_t>(1, rows / group);
  }
  // Half a row of keys is read as fast as the whole, and sums wait for nothing: one block a thread.
  while (cutter.cut.few_heads > 1 && cutter.Blocks() < NumThreads())
    cutter.cut.few_heads = Pieces(cutter.cut.few_heads, 2);
  return cutter.cut;
}

// Late blocks see most keys: they come first, so that the threads end together.
int64_t ListBlocks(const Cutter& cutter, Block* out) {
  const AttentionShape& shape = cutter.a.shape;
  const auto [queries, few_heads] = cutter.cut;
  int64_t longest = 0, n = 0;
  for (const AttentionSegment& s : cutter.a.in.segments) {
    if (!IsOfFewQueries(cutter.a, s)) {
      longest = std::max(longest, Pieces(s.count, queries));
      continue;
    }
    for (int64_t head = 0; s.count > 0 && head < shape.kv_heads; head += few_heads) {
      out[n++] = {&s, head, s.begin, s.count, std::min(few_heads, shape.kv_heads - head)};
    }
  }
  for (int64_t block = longest - 1; block >= 0; --block) {
    for (const AttentionSegment& s : cutter.a.in.segments) {
      const int64_t at = block * queries;
      if (IsOfFewQueries(cutter.a, s)) continue;
      for (int64_t head = 0; at < s.count && head < shape.kv_heads; ++head) {
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
  const ForwardArgs args{shape, in, out, lse};
  const Cutter cutter{args, ChooseCut(args)};
  Block* blocks = scratch.Array<Block>(cutter.Blocks());
  const int64_t count = ListBlocks(cutter, blocks), group = shape.heads / shape.kv_heads;
  int64_t rows = 1, few_rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t of_block = blocks[i].count * blocks[i].kv_heads * group;
    rows = std::max(rows, of_block);
    if (IsOfFewQueries(args, *blocks[i].segment)) few_rows = std::max(few_rows, of_block);
  }
  Carver size(nullptr);
  WithElementType(in.q.dtype, [&](auto t) { ForwardScratch<decltype(t)>(shape, rows, few_rows, size); });
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * size.used()));
  ParallelFor(count, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.q.dtype);
    RunForwardBlock(args, blocks[task], rows, few_rows, buffers + thread * size.used());
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
