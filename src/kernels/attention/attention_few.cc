// A part of kPart positions is a task: its rows' sums relative to its own reference. Parts lie on a fixed grid and are
// added in their order, so that neither threads nor other queries of the segment change a row's bits.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_few.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>

#include "kernels/attention/attention_few.h"
#include "kernels/attention/attention_softmax-inl.h"
#include "kernels/gemm/read_ahead.h"

#ifndef TAIPAN_ATTENTION_FEW_ONCE_
#define TAIPAN_ATTENTION_FEW_ONCE_
namespace taipan::attention {

constexpr int64_t kPart = 2 * kKeyTile;

struct FewArgs {
  const AttentionShape& shape;
  const AttentionInputs& in;
  MatrixView out;
  int64_t RowsOf(const AttentionSegment& s) const { return s.count * shape.heads; }  // by key head, query, head
};

// What the rows of a segment have summed over the keys of a part.
struct PartSums {
  float* reference;  // [R]
  float* sum;        // [R]
  float* acc;        // [R, dh]
};

struct FewPart {
  const AttentionSegment* segment;
  KeyRange range;
  PartSums sums;
};

// Scratch of one thread: R rows of a segment.
struct FewScratch {
  FewScratch(const AttentionShape& shape, int64_t rows, Carver& from) {
    q = from.Take<float>((rows + 3) * shape.head_dim);
    position = from.Take<int64_t>(rows);
    kv_head = from.Take<int64_t>(rows + 3);
    offset = from.Take<int64_t>(rows + 3);
    sum = from.Take<float>(rows * kLanes);
    scores = from.Take<float>((rows + 3) * kKeyTile);
  }
  // q, kv_head, offset and scores are filled up to a multiple of four rows.
  float* q;           // [R, dh]
  int64_t* position;  // [R]
  int64_t* kv_head;   // [R]
  int64_t* offset;    // [R] of its key head in a row of keys
  float* sum;         // [R, kLanes]
  float* scores;      // [R, kKeyTile]; then the probabilities
};

}  // namespace taipan::attention
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::attention {
namespace HWY_NAMESPACE {

// The sums of the lanes of four vectors.
HWY_INLINE void StoreSums(Tag d, Vec a, Vec b, Vec c, Vec e, float* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(a), to[1] = hn::GetLane(b), to[2] = hn::GetLane(c), to[3] = hn::GetLane(e);
#else
  const hn::RepartitionToWide<Tag> wide;
  const auto low = hn::BitCast(wide, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto high = hn::BitCast(wide, hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  const Vec sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, low, high)),
                           hn::BitCast(d, hn::InterleaveUpper(wide, low, high)));
  float blocks[kLanes];
  hn::StoreU(sums, d, blocks);
  const hn::Full128<float> four;
  auto all = hn::LoadU(four, blocks);
  for (size_t i = 4; i < hn::Lanes(d); i += 4) all = hn::Add(all, hn::LoadU(four, blocks + i));
  hn::StoreU(all, four, to);
#endif
}

HWY_INLINE Vec LoadNumbers(Tag d, const int8_t* p) {
  return hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<Tag>(), hn::LoadU(hn::Rebind<int8_t, Tag>(), p)));
}
template <class K>
HWY_INLINE Vec LoadNumbers(Tag d, const K* p) {
  return LoadFloats(d, p);
}
template <class K>
float Number(K x) {
  if constexpr (std::is_same_v<K, BF16>) {
    return ToFloat(x);
  } else {
    return static_cast<float>(x);
  }
}

// acc += p * value.
template <class K>
HWY_INLINE void AddRow(int64_t n, float p, const K* value, float* acc) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const Vec factor = hn::Set(d, p);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::MulAdd(factor, LoadNumbers(d, value + i), hn::LoadU(d, acc + i)), d, acc + i);
  }
  for (; i < n; ++i) acc[i] += p * Number(value[i]);
}

// Keys or values of columns [begin, end) of a tile.
template <class K>
struct Rows {
  const K* data;
  int64_t stride;
  const float* scales;  // [rows, kv_heads], of int8_t
  Columns columns;
};

// kDim: head_dim where it is known, so that the loops over it are unrolled; 0: any.
template <int64_t kDim>
class Part {
 public:
  Part(const FewArgs& a, const FewPart& part, const FewScratch& s)
      : a_(a),
        part_(part),
        s_(s),
        dh_(kDim > 0 ? kDim : a.shape.head_dim),
        of_head_(part.segment->count * (a.shape.heads / a.shape.kv_heads)),
        rows_(a.RowsOf(*part.segment)) {}

  void Run() {
    const Tag d;
    Begin();
    for (int64_t tile = part_.range.first; tile < part_.range.end; tile += kKeyTile) Tile(tile);
    for (int64_t r = 0; r < rows_; ++r) {
      part_.sums.sum[r] = hn::GetLane(hn::SumOfLanes(d, hn::LoadU(d, s_.sum + r * kLanes)));
    }
  }

 private:
  static constexpr int64_t kAhead = 4;  // rows

  int64_t Dim() const { return kDim > 0 ? kDim : dh_; }

  void Begin() {
    for (int64_t r = 0; r < rows_; ++r) {
      const auto [query, head] = RowOf(a_.shape, {part_.segment, r / of_head_, part_.segment->begin, 0}, r % of_head_);
      s_.position[r] = a_.in.positions[query];
      s_.kv_head[r] = r / of_head_;
      s_.offset[r] = s_.kv_head[r] * dh_;
      ConvertRow(dh_, a_.in.q.As<BF16>(query) + head * dh_, s_.q + r * dh_);
    }
    for (int64_t r = rows_; r % 4 != 0; ++r) {
      s_.kv_head[r] = s_.offset[r] = 0;
      std::fill_n(s_.q + r * dh_, dh_, 0.0f);
    }
    ClearSums(rows_, {part_.sums.reference, s_.sum, part_.sums.acc, dh_});
  }

  void Tile(int64_t tile) {
    const KeyRange keys = Positions(*part_.segment);
    const Columns seen = SeenColumns(a_.shape, keys, tile, s_.position[0], s_.position[of_head_ - 1]);
    if (seen.begin >= seen.end) return;
    ForRows(tile, seen, false, [&](const auto& rows) HWY_ATTR { Scores(rows); });
    for (int64_t r = 0; r < rows_; ++r) Softmax(r, keys, tile, seen);
    ForRows(tile, seen, true, [&](const auto& rows) HWY_ATTR { AddValues(rows); });
  }

  // Calls f with the rows of each span that has some of the columns.
  template <class F>
  HWY_INLINE void ForRows(int64_t tile, Columns columns, bool values, F&& f) const {
    const AttentionSegment& seg = *part_.segment;
    const KeySpan* const end = seg.keys.data() + seg.keys.size();
    for (const KeySpan* s = SpanAt(seg, tile + columns.begin); s != end && s->position < tile + columns.end; ++s) {
      const Columns of_span = {std::max(s->position - tile, columns.begin),
                               std::min(s->position + s->count - tile, columns.end)};
      const int64_t row = tile + of_span.begin - s->position;
      const float* const scales = values ? s->v_scales : s->k_scales;
      const auto call = [&](auto k) HWY_ATTR {
        using K = decltype(k);
        const K* const data = static_cast<const K*>(values ? s->v : s->k) + row * s->stride;
        f(Rows<K>{data, s->stride, scales == nullptr ? nullptr : scales + row * a_.shape.kv_heads, of_span});
      };
      s->dtype == DType::kI8 ? call(int8_t{}) : s->dtype == DType::kF32 ? call(float{}) : call(BF16{});
    }
  }

  template <class K>
  void AskFor(const Rows<K>& rows, const K* row) const {
    AskForLines(row + kAhead * rows.stride, a_.shape.kv_heads * dh_ * static_cast<int64_t>(sizeof(K)));
  }

  // Four rows of queries at once.
  template <class K>
  HWY_NOINLINE void Scores(Rows<K> rows) const {
    const K* key = rows.data;
    const float* scales = rows.scales;
    for (int64_t t = rows.columns.begin; t < rows.columns.end; ++t, key += rows.stride) {
      AskFor(rows, key);
      for (int64_t r = 0; r < rows_; r += 4) {
        const int64_t* const o = s_.offset + r;
        float sums[4];
        FourProducts(s_.q + r * Dim(), key + o[0], key + o[1], key + o[2], key + o[3], sums);
        for (int64_t u = 0; u < 4; ++u) {
          if constexpr (std::is_same_v<K, int8_t>) sums[u] *= scales[s_.kv_head[r + u]];
          s_.scores[(r + u) * kKeyTile + t] = sums[u];
        }
      }
      if constexpr (std::is_same_v<K, int8_t>) scales += a_.shape.kv_heads;
    }
  }

  template <class K>
  HWY_INLINE void FourProducts(const float* q, const K* k0, const K* k1, const K* k2, const K* k3, float* sums) const {
    const Tag d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    Vec a = hn::Zero(d), b = a, c = a, e = a;
    int64_t i = 0;
    for (; i + lanes <= Dim(); i += lanes) {
      a = hn::MulAdd(hn::LoadU(d, q + i), LoadNumbers(d, k0 + i), a);
      b = hn::MulAdd(hn::LoadU(d, q + Dim() + i), LoadNumbers(d, k1 + i), b);
      c = hn::MulAdd(hn::LoadU(d, q + 2 * Dim() + i), LoadNumbers(d, k2 + i), c);
      e = hn::MulAdd(hn::LoadU(d, q + 3 * Dim() + i), LoadNumbers(d, k3 + i), e);
    }
    StoreSums(d, a, b, c, e, sums);
    if (i == Dim()) return;
    for (const K* k : {k0, k1, k2, k3}) *sums++ += RestOfProduct(dh_ - i, q + i, k + i), q += dh_;
  }

  template <class K>
  static HWY_NOINLINE float RestOfProduct(int64_t n, const float* q, const K* k) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += q[i] * Number(k[i]);
    return sum;
  }

  void Softmax(int64_t r, KeyRange keys, int64_t tile, Columns all) const {
    float* const scores = s_.scores + r * kKeyTile;
    const Columns seen = SeenColumns(a_.shape, keys, tile, s_.position[r], s_.position[r]);
    if (seen.begin >= seen.end) {
      std::fill(scores + all.begin, scores + all.end, 0.0f);
      return;
    }
    const RowSums sums = {part_.sums.reference + r, s_.sum + r * kLanes, part_.sums.acc + r * dh_, dh_};
    const Columns c = {all.begin / kTrim * kTrim, (all.end + kTrim - 1) / kTrim * kTrim};
    SoftmaxRow<float, true>(c, seen, ScoreScale(a_.shape, 1.44269504f), scores, scores, sums);
  }

  template <class K>
  HWY_NOINLINE void AddValues(Rows<K> rows) const {
    const K* value = rows.data;
    const float* scales = rows.scales;
    for (int64_t t = rows.columns.begin; t < rows.columns.end; ++t, value += rows.stride) {
      AskFor(rows, value);
      for (int64_t r = 0; r < rows_; ++r) {
        float p = s_.scores[r * kKeyTile + t];
        if constexpr (std::is_same_v<K, int8_t>) p *= scales[s_.kv_head[r]];
        AddRow(Dim(), p, value + s_.offset[r], part_.sums.acc + r * Dim());
      }
      if constexpr (std::is_same_v<K, int8_t>) scales += a_.shape.kv_heads;
    }
  }

  const FewArgs& a_;
  const FewPart& part_;
  const FewScratch& s_;
  const int64_t dh_, of_head_, rows_;  // of_head_: rows of a key head
};

void RunPart(const FewArgs& a, const FewPart& part, int64_t rows, void* scratch) {
  Carver carver(scratch);
  const FewScratch s(a.shape, rows, carver);
  switch (a.shape.head_dim) {
    case 64:
      return Part<64>(a, part, s).Run();
    case 128:
      return Part<128>(a, part, s).Run();
    default:
      return Part<0>(a, part, s).Run();
  }
}

// The sums of all parts of a segment, in the first one's place, divided.
void FinishSegment(const FewArgs& a, std::span<const FewPart> parts) {
  const AttentionSegment& seg = *parts[0].segment;
  const int64_t dh = a.shape.head_dim, of_head = seg.count * (a.shape.heads / a.shape.kv_heads);
  for (int64_t r = 0; r < a.RowsOf(seg); ++r) {
    float reference = -std::numeric_limits<float>::infinity(), sum = 0;
    for (const FewPart& part : parts) reference = std::max(reference, part.sums.reference[r]);
    float* const acc = parts[0].sums.acc + r * dh;
    for (const FewPart& part : parts) {
      const float weight = std::exp2(part.sums.reference[r] - reference);
      sum += weight * part.sums.sum[r];
      if (part.sums.acc == parts[0].sums.acc) {
        TileScale(dh, weight, acc, acc);
      } else {
        AddRow(dh, weight, part.sums.acc + r * dh, acc);
      }
    }
    const auto [query, head] = RowOf(a.shape, {&seg, r / of_head, seg.begin, 0}, r % of_head);
    StoreScaled(dh, 1.0f / sum, acc, a.out.As<BF16>(query) + head * dh);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan::attention {
HWY_EXPORT(RunPart);
HWY_EXPORT(FinishSegment);

namespace {

KeyRange RangeOf(const FewArgs& a, const AttentionSegment& s) {
  return Visible(a.shape, Positions(s), a.in.positions[s.begin], a.in.positions[s.begin + s.count - 1]);
}

// Calls f with the parts of a segment's range.
template <class F>
void ForEachPart(KeyRange range, F&& f) {
  for (int64_t at = range.first; at < range.end;) {
    const int64_t next = std::min(range.end, at / kPart * kPart + kPart);
    f(KeyRange{at, next});
    at = next;
  }
}

}  // namespace

void AttendFewQueries(const AttentionShape& shape, const AttentionInputs& in, MatrixView out, Arena& scratch) {
  const FewArgs args{shape, in, out};
  const auto is_few = [&](const AttentionSegment& s) { return s.count > 0 && IsOfFewQueries(in, s, nullptr); };
  int64_t parts = 0, segments = 0, rows = 0;
  for (const AttentionSegment& s : in.segments) {
    if (!is_few(s)) continue;
    ++segments;
    rows = std::max(rows, args.RowsOf(s));
    ForEachPart(RangeOf(args, s), [&](KeyRange) { ++parts; });
  }
  if (segments == 0) return;
  const Arena::Scope scope(scratch);
  FewPart* const all = scratch.Array<FewPart>(parts);
  std::span<const FewPart>* const of_segment = scratch.Array<std::span<const FewPart>>(segments);
  int64_t at = 0, segment = 0;
  for (const AttentionSegment& s : in.segments) {
    if (!is_few(s)) continue;
    const int64_t first = at, r = args.RowsOf(s);
    ForEachPart(RangeOf(args, s), [&](KeyRange range) {
      float* const sums = scratch.Array<float>(r * (shape.head_dim + 2));
      all[at++] = {
          &s, range, {.reference = sums + r * shape.head_dim, .sum = sums + r * (shape.head_dim + 1), .acc = sums}};
    });
    of_segment[segment++] = {all + first, static_cast<size_t>(at - first)};
  }
  Carver size(nullptr);
  FewScratch(shape, rows, size);
  char* const buffers = static_cast<char*>(scratch.Bytes(NumThreads() * size.used()));
  ParallelForRuns(parts, [&](int64_t i, int thread) {
    HWY_DYNAMIC_DISPATCH(RunPart)(args, all[i], rows, buffers + thread * size.used());
  });
  ParallelFor(segments, [&](int64_t i) { HWY_DYNAMIC_DISPATCH(FinishSegment)(args, of_segment[i]); });
}

}  // namespace taipan::attention
#endif  // HWY_ONCE
