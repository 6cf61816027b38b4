// Forward of the chunked SSD (kernels/ssd/ssd_internal.h tells how the work is cut), and the one-token step of
// decoding.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ssd/ssd_forward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "kernels/ssd/ssd_ops-inl.h"

#ifndef TAIPAN_SSD_FORWARD_ONCE_
#define TAIPAN_SSD_FORWARD_ONCE_
namespace taipan::ssd {

struct ForwardArgs {
  const SsdShape& shape;
  const SsdInputs& in;
  std::span<const SsdSegment> segments;
  ChunkList list;
  HeadBlocks blocks;
  GroupOperands groups;
  MatrixView y;
  MatrixView entering;  // [chunks * blocks, N * W] in the element type of x; empty: not kept
};

// A chunk and group of GroupOperands: where its parts go. c null: forward.
struct GroupTask {
  const Chunk& chunk;
  int64_t group;
  void *b, *c;
  float* products;
};

// Decoding: whatever else the call holds, a token with a state takes the recurrence itself.
inline bool IsStep(const SsdSegment& s, bool keep) {
  return !keep && s.state_in != nullptr && (s.steps || (s.length == 1 && s.state_out != nullptr));
}

// One thread's scratch; Q rows of a chunk.
struct ForwardScratch {
  float* state;   // [N, W]
  float* acc;     // [Q, W] rows of y before D x; a step's B and C
  float* decay;   // [block heads, kDecayArrays, Q]
  float* weight;  // [Q] exp(cum_last - cum_j) dt_j
  void* packed;   // the larger of [N, W] and [Q, W], packed
  void* m;        // [kTriangleBlock, Q] in the element type of x

  ForwardScratch(const SsdShape& s, const HeadBlocks& b, void* at, int64_t* bytes) {
    const int64_t q = PaddedChunk(s), n = (s.d_state + 1) / 2 * 2;
    Carver carver(at);
    state = carver.Take<float>(s.d_state * b.width);
    acc = carver.Take<float>(std::max(q * b.width, 2 * n));
    decay = carver.Take<float>(b.heads * kDecayArrays * q);
    weight = carver.Take<float>(q);
    packed = carver.Take<float>(std::max(n, q) * b.width);
    m = carver.Take<float>(kTriangleBlock * q);
    if (bytes != nullptr) *bytes = carver.used();
  }
};

}  // namespace taipan::ssd
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {

Decay DecayOf(const SsdShape& shape, float* decay, int64_t head_in_block) {
  const int64_t q = PaddedChunk(shape);
  float* at = decay + head_in_block * kDecayArrays * q;
  return {at, at + q, at + 2 * q, at + 3 * q};
}

template <class T>
void PrepareGroup(const SsdShape& shape, const SsdInputs& in, const GroupTask& task, void* scratch) {
  using O = Ops<T>;
  using Packed = typename O::Packed;
  const Chunk& c = task.chunk;
  const bool transposed = task.c != nullptr;
  const int64_t n = shape.d_state, q = PaddedChunk(shape);
  const ScaledRows<T> b_rows = {in.B.As<T>(c.begin) + task.group * n, in.B.stride};
  const ScaledRows<T> c_rows = {in.C.As<T>(c.begin) + task.group * n, in.C.stride};
  O::Pack(c.length, n, b_rows, static_cast<Packed*>(task.b), n);
  if (transposed) O::Pack(c.length, n, c_rows, static_cast<Packed*>(task.c), n);
  const ScaledRows<T> rows = transposed ? b_rows : c_rows, columns = transposed ? c_rows : b_rows;
  Packed* packed = static_cast<Packed*>(scratch);
  O::PackTransposed(n, c.length, columns.data, columns.stride, packed, q);
  const TileB<Packed> right = {packed, q};
  const TileC products = {task.products, ProductsStride(shape)};
  for (int64_t i0 = 0; i0 < c.length; i0 += kTriangleBlock) {
    const int64_t block = std::min(kTriangleBlock, c.length - i0), from = transposed ? i0 : 0;
    const int64_t to = transposed ? c.length : i0 + block;
    O::Product({block, to - from, n}, O::Rows(rows.data + i0 * rows.stride, rows.stride), right.From(0, from),
               products.From(i0, from));
  }
}
void Prepare(const SsdShape& shape, const SsdInputs& in, const GroupTask& task, void* scratch) {
  WithElementType(in.x.dtype, [&](auto t) { PrepareGroup<decltype(t)>(shape, in, task, scratch); });
}

struct ChunkHead {
  const Chunk& c;
  int64_t head;
  Decay decay;
};

// Rows [i0, i0 + rows) of the masked triangle: m_ij = cb_ij exp(cum_i - cum_j) dt_j for j <= i, 0 for other j < width.
// Left of the diagonal block the exponential is exp(cum_i - cum_i0) exp(cum_i0 - cum_j): two factors of at most 1.
template <class T>
void MaskRows(const ForwardArgs& a, const ChunkHead& h, int64_t i0, int64_t rows, float* before, T* m) {
  const FloatTag d;
  const Decay decay = h.decay;
  const int64_t group = h.head / (a.shape.heads / a.shape.groups);
  const int64_t q = PaddedChunk(a.shape), width = (i0 + rows + 1) / 2 * 2;
  const auto first = hn::Set(d, decay.cum[i0]);
  ForVectors(d, i0, [&](int64_t j, auto part) HWY_ATTR {
    const auto e = ExpOfNegative(d, hn::Sub(first, Load(d, decay.cum + j, part)));
    Store(e, d, before + j, part);
  });
  for (int64_t i = i0; i < i0 + rows; ++i, m += q) {
    const float* cb = a.groups.Products(a.shape, h.c.begin + i, group);
    const auto cum_i = hn::Set(d, decay.cum[i]), last = hn::Set(d, static_cast<float>(i));
    const auto since_first = ExpOfNegative(d, hn::Sub(cum_i, first));
    ForVectors(d, i0, [&](int64_t j, auto part) HWY_ATTR {
      const auto e = hn::Mul(since_first, Load(d, before + j, part));
      Store(hn::Mul(hn::Mul(Load(d, cb + j, part), e), Load(d, decay.dt + j, part)), d, m + j, part);
    });
    ForVectors(d, width - i0, [&](int64_t at, auto part) HWY_ATTR {
      const int64_t j = i0 + at;
      const auto seen = hn::Le(hn::Add(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(j))), last);
      const auto fall = hn::Sub(cum_i, Load(d, decay.cum + j, part));  // positive where not seen
      const auto value = hn::Mul(hn::Mul(Load(d, cb + j, part), ExpOfNegative(d, fall)), Load(d, decay.dt + j, part));
      Store(hn::IfThenElseZero(seen, value), d, m + j, part);
    });
  }
}

// acc (+)= sum_{j <= i} cb_ij exp(cum_i - cum_j) dt_j x_j of one head.
template <class T>
void Triangle(const ForwardArgs& a, const ChunkHead& h, const ForwardScratch& s, TileC acc) {
  using O = Ops<T>;
  const Chunk& c = h.c;
  const int64_t p = a.shape.head_dim, q = PaddedChunk(a.shape);
  auto* packed = static_cast<typename O::Packed*>(s.packed);
  T* m = static_cast<T*>(s.m);
  O::Pack(c.length, p, ScaledRows<T>{a.in.x.As<T>(c.begin) + h.head * p, a.in.x.stride}, packed, p);
  for (int64_t i0 = 0; i0 < c.length; i0 += kTriangleBlock) {
    const int64_t rows = std::min(kTriangleBlock, c.length - i0);
    MaskRows(a, h, i0, rows, s.weight, m);
    O::Product({rows, p, i0 + rows}, O::Rows(m, q), {packed, p}, acc.From(i0, 0));
  }
}

// y = acc + D x of one head.
template <class T>
void StoreOutput(const ForwardArgs& a, const Chunk& c, int64_t head, const float* acc) {
  const FloatTag d;
  const int64_t p = a.shape.head_dim;
  const auto skip = hn::Set(d, a.in.D[head]);
  for (int64_t i = 0; i < c.length; ++i) {
    const T* x = a.in.x.As<T>(c.begin + i) + head * p;
    T* y = a.y.As<T>(c.begin + i) + head * p;
    ForVectors(d, p, [&](int64_t j, auto part) HWY_ATTR {
      Store(hn::MulAdd(skip, Load(d, x + j, part), Load(d, acc + i * a.blocks.width + j, part)), d, y + j, part);
    });
  }
}

// state <- decay * state + sum_j exp(cum_last - cum_j) dt_j B_j x_j^T.
template <class T>
void AdvanceState(const ForwardArgs& a, const Chunk& c, int64_t block, bool from_zero, const ForwardScratch& s) {
  using O = Ops<T>;
  const SsdShape& shape = a.shape;
  const int64_t p = shape.head_dim, width = a.blocks.width, head0 = block * a.blocks.heads;
  auto* packed = static_cast<typename O::Packed*>(s.packed);
  for (int64_t h = 0; h < a.blocks.heads; ++h) {
    const Decay decay = DecayOf(shape, s.decay, h);
    for (int64_t j = 0; j < c.length; ++j) s.weight[j] = decay.to_end[j] * decay.dt[j];
    const ScaledRows<T> x = {a.in.x.As<T>(c.begin) + (head0 + h) * p, a.in.x.stride, s.weight};
    O::Pack(c.length, p, x, packed + h * p, width);
    if (!from_zero) ScaleHeadState(shape.d_state, p, width, decay.from_start[c.length - 1], s.state + h * p);
  }
  const auto* b = static_cast<const typename O::Packed*>(a.groups.B(shape, c.index, block / a.blocks.per_group));
  O::Product({shape.d_state, width, c.length}, O::PackedTransposed(b, shape.d_state), {packed, width},
             {s.state, width, !from_zero});
}

template <class T>
void ForwardChunk(const ForwardArgs& a, const Chunk& c, int64_t block, bool from_zero, const ForwardScratch& s) {
  using O = Ops<T>;
  const SsdShape& shape = a.shape;
  const int64_t p = shape.head_dim, n = shape.d_state, width = a.blocks.width, head0 = block * a.blocks.heads;
  const int64_t group = block / a.blocks.per_group;
  for (int64_t h = 0; h < a.blocks.heads; ++h) ChunkDecay(a.in, c, head0 + h, DecayOf(shape, s.decay, h));
  if (!from_zero) {
    auto* packed = static_cast<typename O::Packed*>(s.packed);
    O::Pack(n, width, ScaledRows<float>{s.state, width}, packed, width);
    O::Product({c.length, width, n}, O::Rows(a.in.C.As<T>(c.begin) + group * n, a.in.C.stride), {packed, width},
               {s.acc, width});
  }
  for (int64_t h = 0; h < a.blocks.heads; ++h) {
    const Decay decay = DecayOf(shape, s.decay, h);
    float* acc = s.acc + h * p;
    if (!from_zero) ScaleRows(c.length, p, ScaledRows<float>{acc, width, decay.from_start}, acc, width);
    Triangle<T>(a, {c, head0 + h, decay}, s, {acc, width, !from_zero});
    StoreOutput<T>(a, c, head0 + h, acc);
  }
}

template <class T>
void KeepEntering(const ForwardArgs& a, const Chunk& c, int64_t block, bool zero, const float* state) {
  if (!a.entering) return;
  T* to = a.entering.As<T>(c.index * a.blocks.count + block);
  const FloatTag d;
  const int64_t size = a.shape.d_state * a.blocks.width;
  if (zero) {
    std::fill_n(to, size, T());
    return;
  }
  ForVectors(d, size, [&](int64_t i, auto part) HWY_ATTR { Store(Load(d, state + i, part), d, to + i, part); });
}

// A row of a head's state: S <- fall S + step B; returns S C. to may be from. Rows one after the other: memory comes at
// half of the rate where four take turns (Zen 4).
HWY_INLINE float StepRow(int64_t n, float fall, float step, const float* b, const float* c, const float* from,
                         float* to) {
  const FloatTag d;
  const auto falls = hn::Set(d, fall), steps = hn::Set(d, step);
  auto sum = hn::Zero(d);
  ForVectors(d, n, [&](int64_t j, auto part) HWY_ATTR {
    const auto s = hn::MulAdd(steps, Load(d, b + j, part), hn::Mul(falls, Load(d, from + j, part)));
    Store(s, d, to + j, part);
    sum = hn::MulAdd(s, Load(d, c + j, part), sum);
  });
  return SumLanes(d, sum);
}

// The token at `row` of one head: S <- exp(dt A) S + dt x B^T, y = S C + D x. state_out [P, N] may be state_in.
template <class T>
void StepHead(const ForwardArgs& a, int64_t row, int64_t head, const float* state_in, float* state_out, float* rows) {
  const FloatTag d;
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, group = head / (a.shape.heads / a.shape.groups);
  float *b = rows, *c = rows + n;
  ForVectors(d, n, [&](int64_t i, auto part) HWY_ATTR {
    Store(Load(d, a.in.B.As<T>(row) + group * n + i, part), d, b + i, part);
    Store(Load(d, a.in.C.As<T>(row) + group * n + i, part), d, c + i, part);
  });
  const float dt = a.in.dt.F32(row)[head], decay = std::exp(dt * a.in.A[head]);
  const T* x = a.in.x.As<T>(row) + head * p;
  T* y = a.y.As<T>(row) + head * p;
  for (int64_t i = 0; i < p; ++i) {
    const float xi = ToFloat(x[i]);
    const float out = StepRow(n, decay, dt * xi, b, c, state_in + i * n, state_out + i * n) + a.in.D[head] * xi;
    if constexpr (sizeof(T) == sizeof(float)) {
      y[i] = out;
    } else {
      y[i] = ToBF16(out);
    }
  }
}
// The segment's tokens, one after the other. state [P, N]: for the head's, where it is not wanted.
void Step(const ForwardArgs& a, const SsdSegment& seg, int64_t head, float* state, float* rows) {
  const int64_t offset = head * a.shape.head_dim * a.shape.d_state;
  const float* in = seg.state_in + offset;
  float* const out = seg.state_out != nullptr ? seg.state_out + offset : state;
  WithElementType(a.in.x.dtype, [&](auto t) {
    for (int64_t row = seg.begin; row < seg.begin + seg.length; ++row, in = out) {
      StepHead<decltype(t)>(a, row, head, in, out, rows);
    }
  });
}

// A chunk of one token takes the recurrence too, so that it gives the bits of a step.
template <class T>
void StepChunk(const ForwardArgs& a, const Chunk& c, int64_t block, bool from_zero, const ForwardScratch& s) {
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, width = a.blocks.width;
  float* state = static_cast<float*>(s.packed);  // [W, N]
  if (from_zero) {
    std::fill_n(state, width * n, 0.0f);
  } else {
    TileTranspose(n, width, s.state, width, state, n);
  }
  for (int64_t h = 0; h < a.blocks.heads; ++h) {
    float* mine = state + h * p * n;
    StepHead<T>(a, c.begin, block * a.blocks.heads + h, mine, mine, s.acc);
  }
  TileTranspose(width, n, state, n, s.state, width);
}

// One block of heads of one sequence.
template <class T>
void WalkBlock(const ForwardArgs& a, int64_t segment, int64_t block, const ForwardScratch& s) {
  const SsdSegment& seg = a.segments[static_cast<size_t>(segment)];
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, width = a.blocks.width;
  const int64_t offset = block * a.blocks.heads * p * n;
  if (seg.state_in != nullptr) TileTranspose(width, n, seg.state_in + offset, n, s.state, width);
  bool zero = seg.state_in == nullptr;
  for (int64_t i = a.list.first[segment]; i < a.list.first[segment + 1]; ++i) {
    const Chunk& c = a.list.chunks[i];
    KeepEntering<T>(a, c, block, zero, s.state);
    if (c.length == 1) {
      StepChunk<T>(a, c, block, zero, s);
    } else {
      ForwardChunk<T>(a, c, block, zero, s);
      if (c.last && seg.state_out == nullptr) return;
      AdvanceState<T>(a, c, block, zero, s);
    }
    zero = false;
  }
  if (seg.state_out == nullptr) return;
  if (zero) {
    std::memset(seg.state_out + offset, 0, static_cast<size_t>(width * n) * sizeof(float));
  } else {
    TileTranspose(n, width, s.state, width, seg.state_out + offset, n);
  }
}
void Walk(const ForwardArgs& a, int64_t segment, int64_t block, const ForwardScratch& s) {
  const SsdSegment& seg = a.segments[static_cast<size_t>(segment)];
  if (IsStep(seg, static_cast<bool>(a.entering))) {
    for (int64_t h = block * a.blocks.heads; h < (block + 1) * a.blocks.heads; ++h) Step(a, seg, h, s.state, s.acc);
    return;
  }
  WithElementType(a.in.x.dtype, [&](auto t) { WalkBlock<decltype(t)>(a, segment, block, s); });
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan::ssd {

HWY_EXPORT(Prepare);
HWY_EXPORT(Walk);
HWY_EXPORT(Step);

GroupOperands PrepareGroups(const SsdShape& shape, const SsdInputs& in, ChunkList list, bool transposed,
                            Arena& scratch) {
  const int64_t q = PaddedChunk(shape), n = shape.d_state, tasks = list.count * shape.groups;
  GroupOperands out;
  out.packed_bytes = q * n * ElementBytes(in);
  out.b = scratch.Bytes(tasks * out.packed_bytes);
  if (transposed) out.c = scratch.Bytes(tasks * out.packed_bytes);
  out.products = scratch.Floats(in.x.rows * ProductsStride(shape));
  Arena::Scope scope(scratch);
  float* packed = scratch.Floats(NumThreads() * n * q);
  ParallelFor(tasks, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.x.dtype);
    const int64_t group = task % shape.groups, offset = task * out.packed_bytes;
    const Chunk& c = list.chunks[task / shape.groups];
    const GroupTask parts = {.chunk = c,
                             .group = group,
                             .b = static_cast<char*>(out.b) + offset,
                             .c = transposed ? static_cast<char*>(out.c) + offset : nullptr,
                             .products = out.Products(shape, c.begin, group)};
    HWY_DYNAMIC_DISPATCH(Prepare)(shape, in, parts, packed + thread * n * q);
  });
  return out;
}

namespace {

// The dispatch needs this namespace where there is one target only.
void RunWalk(const ForwardArgs& a, int64_t segment, int64_t block, const ForwardScratch& s) {
  HWY_DYNAMIC_DISPATCH(Walk)(a, segment, block, s);
}

void Steps(const ForwardArgs& a, Arena& scratch) {
  const int64_t heads = a.shape.heads, n = a.shape.d_state, state = a.shape.head_dim * n;
  int64_t longest = 1, unwanted = 0;  // tokens of a segment; of a state that is not wanted
  for (const SsdSegment& s : a.segments) {
    longest = std::max(longest, s.length);
    if (s.state_out == nullptr) unwanted = state;
  }
  // Some ten microseconds a task: one decoded token of a small model wakes no other thread.
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, state * longest));
  const int64_t tasks = static_cast<int64_t>(a.segments.size()) * heads;
  const int64_t buffer = unwanted + 2 * n;
  float* buffers = scratch.Floats((tasks + grain - 1) / grain * buffer);
  ParallelForRanges(tasks, grain, [&](int64_t begin, int64_t end) {
    float* at = buffers + begin / grain * buffer;
    for (int64_t task = begin; task < end; ++task) {
      HWY_DYNAMIC_DISPATCH(Step)
      (a, a.segments[static_cast<size_t>(task / heads)], task % heads, at, at + unwanted);
    }
  });
}

}  // namespace
}  // namespace taipan::ssd

namespace taipan {

void SsdForward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments, MatrixView y,
                void* entering_states, Arena& scratch) {
  CHECK_EQ(in.x.cols, shape.heads * shape.head_dim);
  CHECK_EQ(in.B.cols, shape.groups * shape.d_state);
  CHECK_EQ(shape.heads % shape.groups, 0);
  CHECK(in.B.dtype == in.x.dtype && in.C.dtype == in.x.dtype && y.dtype == in.x.dtype);
  CHECK(in.x.dtype == DType::kF32 || (shape.d_state % 2 == 0 && shape.head_dim % 2 == 0));
  Arena::Scope scope(scratch);
  const ssd::HeadBlocks blocks = ssd::BlocksOf(shape);
  ssd::ForwardArgs args{shape, in, segments, {}, blocks, {}, y, {}};
  const auto is_step = [&](const SsdSegment& s) { return ssd::IsStep(s, entering_states != nullptr); };
  if (std::all_of(segments.begin(), segments.end(), is_step)) {
    ssd::Steps(args, scratch);
    return;
  }
  args.list = ssd::ListChunks(shape, segments, scratch);
  const int64_t state = shape.d_state * blocks.width;
  if (entering_states != nullptr) {
    args.entering = MatrixView(entering_states, in.x.dtype, args.list.count * blocks.count, state, state);
  }
  args.groups = ssd::PrepareGroups(shape, in, args.list, /*transposed=*/false, scratch);
  int64_t per_thread = 0;
  ssd::ForwardScratch(shape, blocks, nullptr, &per_thread);
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * per_thread));
  ParallelFor(static_cast<int64_t>(segments.size()) * blocks.count, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.x.dtype);
    const ssd::ForwardScratch s(shape, blocks, buffers + thread * per_thread, nullptr);
    ssd::RunWalk(args, task / blocks.count, task % blocks.count, s);
  });
}

}  // namespace taipan
#endif  // HWY_ONCE
