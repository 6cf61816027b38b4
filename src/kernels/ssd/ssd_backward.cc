// Backward of the chunked SSD (derivation: docs/math/ssd.md): one walk over the chunks in reverse a block of heads,
// with the gradient of the state in cache; then, once a chunk and group, what the heads share.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ssd/ssd_backward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "kernels/ssd/ssd_backward_internal.h"
#include "kernels/ssd/ssd_ops-inl.h"
#include "kernels/ssd/ssd_triangle-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {

// A head of a chunk: its operands and the thread's arrays.
struct HeadWork {
  const Chunk& c;
  int64_t head, in_block;
  Decay decay;
  float *dcum, *ddt;
};

HeadWork WorkOf(const BackwardArgs& a, const Chunk& c, int64_t block, int64_t in_block, const BackwardScratch& s) {
  const int64_t q = PaddedChunk(a.shape);
  float* at = s.decay + in_block * kDecayArrays * q;
  return {c,
          block * a.blocks.heads + in_block,
          in_block,
          {at, at + q, at + 2 * q, at + 3 * q},
          s.dcum + in_block * q,
          s.ddt + in_block * q};
}

// Within the chunk, one head: s.dx columns, dcum, ddt and the block's dproducts.
template <class T>
void BackwardTriangle(const BackwardArgs& a, const HeadWork& w, int64_t block, bool first_head,
                      const BackwardScratch& s) {
  using O = Ops<T>;
  using Packed = typename O::Packed;
  const int64_t p = a.shape.head_dim, q = PaddedChunk(a.shape), length = w.c.length, width = a.blocks.width;
  const int64_t group = block / a.blocks.per_group;
  const T* x = a.in.x.As<T>(w.c.begin) + w.head * p;
  const T* dy = a.out.dy.As<T>(w.c.begin) + w.head * p;
  Packed *columns = static_cast<Packed*>(s.packed), *rows_of_dy = static_cast<Packed*>(s.packed2);
  T* m = static_cast<T*>(s.m);
  O::PackTransposed(p, length, dy, a.out.dy.stride, columns, q);
  O::Pack(length, p, ScaledRows<T>{dy, a.out.dy.stride}, rows_of_dy, p);
  const int64_t padded = (length + 1) / 2 * 2;
  for (int64_t j0 = 0; j0 < length; j0 += kTriangleBlock) {
    const int64_t rows = std::min(kTriangleBlock, length - j0);
    O::Product({rows, length - j0, p}, O::Rows(x + j0 * a.in.x.stride, a.in.x.stride), {columns + j0, q},
               {s.dm + j0, q});
    const TriangleRows<T> t = {.cb = a.groups.Products(a.shape, w.c.begin + j0, group),
                               .dm = s.dm,
                               .dcb = a.DProducts(block, w.c.begin + j0),
                               .dcum = w.dcum,
                               .m = m,
                               .ddt = w.ddt,
                               .cb_stride = ProductsStride(a.shape),
                               .q = q};
    for (int64_t r = 0; r < rows; ++r) {
      if (first_head) std::memset(t.dcb + r * q + j0, 0, static_cast<size_t>(length - j0) * sizeof(float));
      if (padded > length) m[r * q + length] = T();
    }
    DiagonalBlock(t, j0, rows, w.decay);
    if (j0 + rows < length) BeyondDiagonal(t, j0 + rows, length, w.decay, s.weight);
    const TileB<Packed> dy_rows = {rows_of_dy, p};
    O::Product({rows, p, length - j0}, O::Rows(m + j0, q), dy_rows.From(j0, 0),
               {s.dx + j0 * width + w.in_block * p, width});
  }
}

// Through the state that leaves: adds to s.dx, ddt; returns what the last cum receives. Then dx is complete.
template <class T>
float FinishInputs(const BackwardArgs& a, const HeadWork& w, bool has_g, const BackwardScratch& s, double* d_skip) {
  const FloatTag d;
  const int64_t p = a.shape.head_dim, width = a.blocks.width;
  const auto skip = hn::Set(d, a.in.D[w.head]);
  T* scaled = static_cast<T*>(s.scaled);
  float dcum_last = 0;
  for (int64_t j = 0; j < w.c.length; ++j) {
    const T* x = a.in.x.As<T>(w.c.begin + j) + w.head * p;
    const T* dy = a.out.dy.As<T>(w.c.begin + j) + w.head * p;
    T* dx = a.out.dx.As<T>(w.c.begin + j) + w.head * p;
    const float *within = s.dx + j * width + w.in_block * p, *r = s.r + j * width + w.in_block * p;
    const auto to_end = hn::Set(d, has_g ? w.decay.to_end[j] : 0.0f), dt = hn::Set(d, w.decay.dt[j]);
    const auto weight = hn::Mul(to_end, dt);
    FloatVec through = hn::Zero(d), skipped = hn::Zero(d);
    ForVectors(d, p, [&](int64_t i, auto part) HWY_ATTR {
      const auto xi = Load(d, x + i, part), dyi = Load(d, dy + i, part);
      FloatVec gradient = Load(d, within + i, part);
      skipped = hn::MulAdd(xi, dyi, skipped);
      if (has_g) {
        const auto ri = Load(d, r + i, part);
        through = hn::MulAdd(xi, ri, through);
        gradient = hn::MulAdd(to_end, ri, gradient);
        Store(hn::Mul(xi, weight), d, scaled + j * width + w.in_block * p + i, part);
      }
      Store(hn::MulAdd(gradient, dt, hn::Mul(skip, dyi)), d, dx + i, part);
    });
    *d_skip += SumLanes(d, skipped);
    const float direct = w.decay.to_end[j] * SumLanes(d, through);
    dcum_last += w.decay.dt[j] * direct;
    w.ddt[j] += direct;
    w.dcum[j] -= w.decay.dt[j] * w.ddt[j];
  }
  return dcum_last;
}

// Through the state that entered, one head: the block's dC and dcum. s.scaled holds exp(cum_i) dy_i.
template <class T>
void BackwardEntering(const BackwardArgs& a, const HeadWork& w, int64_t block, const T* entering,
                      const BackwardScratch& s) {
  using O = Ops<T>;
  using Packed = typename O::Packed;
  const FloatTag d;
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, width = a.blocks.width;
  const int64_t group = block / a.blocks.per_group;
  Packed* packed = static_cast<Packed*>(s.packed);
  const T* scaled = static_cast<const T*>(s.scaled) + w.in_block * p;
  O::PackTransposed(p, n, entering + w.in_block * p, width, packed, n);
  O::Product({w.c.length, n, p}, O::Rows(scaled, width), {packed, n}, {s.tmp, n});
  for (int64_t i = 0; i < w.c.length; ++i) {
    const float* tmp = s.tmp + i * n;
    float* dc = a.DC(block, w.c.begin + i);
    const T* c = a.in.C.As<T>(w.c.begin + i) + group * n;
    FloatVec dot = hn::Zero(d);
    ForVectors(d, n, [&](int64_t k, auto part) HWY_ATTR {
      const auto v = Load(d, tmp + k, part);
      dot = hn::MulAdd(v, Load(d, c + k, part), dot);
      Store(hn::Add(Load(d, dc + k, part), v), d, dc + k, part);
    });
    w.dcum[i] += SumLanes(d, dot);
  }
}

// <G, S> of one head.
template <class T>
float StateDot(const BackwardArgs& a, int64_t in_block, const T* entering, const float* g) {
  const int64_t p = a.shape.head_dim, width = a.blocks.width;
  float sum = 0;
  for (int64_t k = 0; k < a.shape.d_state; ++k) {
    sum += DotOf(p, g + k * width + in_block * p, entering + k * width + in_block * p);
  }
  return sum;
}

// From dcum and the direct part to ddt, dA; dD.
void FinishHead(const BackwardArgs& a, const HeadWork& w, double d_skip) {
  double running = 0, d_a = 0;
  for (int64_t i = w.c.length; i-- > 0;) {
    running += w.dcum[i];  // d / d (dt_i A): every cum from i on holds it
    d_a += running * w.decay.dt[i];
    a.out.ddt.F32(w.c.begin + i)[w.head] = w.ddt[i] + static_cast<float>(running) * a.in.A[w.head];
  }
  float* out = a.da_dd + 2 * (w.c.index * a.shape.heads + w.head);
  out[0] = static_cast<float>(d_a);
  out[1] = static_cast<float>(d_skip);
}

// dB through the state that leaves: sum over the block's columns of (weight x) G^T. s.scaled holds weight x.
template <class T>
void BackwardLeavingB(const BackwardArgs& a, const Chunk& c, int64_t block, const BackwardScratch& s) {
  using O = Ops<T>;
  const int64_t n = a.shape.d_state, width = a.blocks.width;
  auto* packed = static_cast<typename O::Packed*>(s.packed);
  O::PackTransposed(width, n, s.g, width, packed, n);
  O::Product({c.length, n, width}, O::Rows(static_cast<const T*>(s.scaled), width), {packed, n},
             {a.DB(block, c.begin), n});
}

// g <- decay g + sum_i exp(cum_i) C_i dy_i^T: the gradient of the state that entered.
template <class T>
void StepBack(const BackwardArgs& a, const Chunk& c, int64_t block, bool has_g, const BackwardScratch& s) {
  using O = Ops<T>;
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, width = a.blocks.width;
  auto* packed = static_cast<typename O::Packed*>(s.packed);
  for (int64_t h = 0; h < a.blocks.heads; ++h) {
    const HeadWork w = WorkOf(a, c, block, h, s);
    const ScaledRows<T> dy = {a.out.dy.As<T>(c.begin) + w.head * p, a.out.dy.stride, w.decay.from_start};
    O::Pack(c.length, p, dy, packed + h * p, width);
    if (has_g) ScaleHeadState(n, p, width, w.decay.from_start[c.length - 1], s.g + h * p);
  }
  const auto* packed_c =
      static_cast<const typename O::Packed*>(a.groups.C(a.shape, c.index, block / a.blocks.per_group));
  O::Product({n, width, c.length}, O::PackedTransposed(packed_c, n), {packed, width}, {s.g, width, has_g});
}

// One chunk of one block. has_g: s.g is not zero. from_zero: the state that entered is.
template <class T>
void BackwardChunk(const BackwardArgs& a, const Chunk& c, int64_t block, bool has_g, bool from_zero,
                   const BackwardScratch& s) {
  using O = Ops<T>;
  const int64_t p = a.shape.head_dim, n = a.shape.d_state, q = PaddedChunk(a.shape), width = a.blocks.width;
  const int64_t group = block / a.blocks.per_group, heads = a.blocks.heads;
  const T* entering = a.entering.As<T>(c.index * a.blocks.count + block);
  if (has_g) {
    auto* packed = static_cast<typename O::Packed*>(s.packed);
    O::Pack(n, width, ScaledRows<float>{s.g, width}, packed, width);
    O::Product({c.length, width, n}, O::Rows(a.in.B.As<T>(c.begin) + group * n, a.in.B.stride), {packed, width},
               {s.r, width});
  }
  std::memset(s.dcum, 0, static_cast<size_t>(heads * q) * sizeof(float));
  std::memset(s.ddt, 0, static_cast<size_t>(heads * q) * sizeof(float));
  double d_skip[kMaxBlockHeads] = {};
  CHECK_LE(heads, 64);
  for (int64_t h = 0; h < heads; ++h) {
    const HeadWork w = WorkOf(a, c, block, h, s);
    ChunkDecay(a.in, c, w.head, w.decay);
    BackwardTriangle<T>(a, w, block, h == 0, s);
    w.dcum[c.length - 1] += FinishInputs<T>(a, w, has_g, s, &d_skip[h]);
  }
  float *db = a.DB(block, c.begin), *dc = a.DC(block, c.begin);
  if (has_g) {
    BackwardLeavingB<T>(a, c, block, s);
  } else {
    std::memset(db, 0, static_cast<size_t>(c.length * n) * sizeof(float));
  }
  std::memset(dc, 0, static_cast<size_t>(c.length * n) * sizeof(float));
  for (int64_t h = 0; h < heads; ++h) {
    const HeadWork w = WorkOf(a, c, block, h, s);
    if (!from_zero) {
      const ScaledRows<T> dy = {a.out.dy.As<T>(c.begin) + w.head * p, a.out.dy.stride, w.decay.from_start};
      ScaleRows(c.length, p, dy, static_cast<T*>(s.scaled) + h * p, width);
      BackwardEntering<T>(a, w, block, entering, s);
      if (has_g) w.dcum[c.length - 1] += w.decay.from_start[c.length - 1] * StateDot(a, h, entering, s.g);
    }
    FinishHead(a, w, d_skip[h]);
  }
}

template <class T>
void WalkBlock(const BackwardArgs& a, int64_t segment, int64_t block, const BackwardScratch& s) {
  const SsdSegment& seg = a.segments[static_cast<size_t>(segment)];
  const int64_t n = a.shape.d_state, width = a.blocks.width, offset = block * width * n;
  bool has_g = seg.dstate_out != nullptr;
  if (has_g) TileTranspose(width, n, seg.dstate_out + offset, n, s.g, width);
  for (int64_t i = a.list.first[segment + 1]; i-- > a.list.first[segment];) {
    const Chunk& c = a.list.chunks[i];
    const bool from_zero = c.first && seg.state_in == nullptr;
    BackwardChunk<T>(a, c, block, has_g, from_zero, s);
    if (c.first && seg.dstate_in == nullptr) return;
    StepBack<T>(a, c, block, has_g, s);
    has_g = true;
  }
  if (seg.dstate_in == nullptr) return;
  if (has_g) {
    TileTranspose(n, width, s.g, width, seg.dstate_in + offset, n);
  } else {
    std::memset(seg.dstate_in + offset, 0, static_cast<size_t>(width * n) * sizeof(float));
  }
}
void Walk(const BackwardArgs& a, int64_t segment, int64_t block, const BackwardScratch& s) {
  WithElementType(a.in.x.dtype, [&](auto t) { WalkBlock<decltype(t)>(a, segment, block, s); });
}

// The sum over a group's blocks of rows [length, cols], to the first block's.
void SumBlocks(const BackwardArgs& a, int64_t group, int64_t cols, float* first, int64_t block_stride) {
  const int64_t block0 = group * a.blocks.per_group;
  float* to = first + block0 * block_stride;
  for (int64_t b = 1; b < a.blocks.per_group; ++b) TileAxpy(cols, 1.0f, to + b * block_stride, to);
}

// dB_j = (through states) + sum_i dcb_ji C_i, dC_i likewise with B, summed over the group's blocks.
// scratch: 2 x [Q, Q] floats.
template <class T>
void GroupChunk(const BackwardArgs& a, const Chunk& c, int64_t group, void* scratch) {
  using O = Ops<T>;
  using Packed = typename O::Packed;
  const FloatTag d;
  const int64_t n = a.shape.d_state, q = PaddedChunk(a.shape), length = c.length;
  const int64_t block0 = group * a.blocks.per_group;
  for (int64_t j = 0; j < length; ++j) {
    const int64_t row = c.begin + j;
    SumBlocks(a, group, n, a.db + row * n, a.rows() * n);
    SumBlocks(a, group, n, a.dc + row * n, a.rows() * n);
    SumBlocks(a, group, length - j, a.dproducts + row * q + j, a.rows() * q);
  }
  T* by_j = static_cast<T*>(scratch);                      // [j, i]: left operand of dB
  Packed* by_i = reinterpret_cast<Packed*>(by_j + q * q);  // the same packed: transposed, left operand of dC
  for (int64_t j0 = 0; j0 < length; j0 += kTriangleBlock) {
    const float* rows = a.DProducts(block0, c.begin + j0) + j0;
    const int64_t height = std::min(kTriangleBlock, length - j0);
    for (int64_t r = 0; r < height; ++r) {
      const float* row = rows + r * q;
      T* to = by_j + (j0 + r) * q + j0;
      ForVectors(d, length - j0,
                 [&](int64_t i, auto part) HWY_ATTR { Store(Load(d, row + i, part), d, to + i, part); });
      if (length < q) to[length - j0] = T();
    }
    O::Pack(height, length - j0, ScaledRows<float>{rows, q}, by_i + O::PackedRows(j0) * q + j0, q);
  }
  const TileB<Packed> b_rows = {static_cast<const Packed*>(a.groups.B(a.shape, c.index, group)), n};
  const TileB<Packed> c_rows = {static_cast<const Packed*>(a.groups.C(a.shape, c.index, group)), n};
  float *db = a.DB(block0, c.begin), *dc = a.DC(block0, c.begin);
  for (int64_t r0 = 0; r0 < length; r0 += kTriangleBlock) {
    const int64_t rows = std::min(kTriangleBlock, length - r0);
    O::Product({rows, n, length - r0}, O::Rows(by_j + r0 * q + r0, q), c_rows.From(r0, 0), {db + r0 * n, n, true});
    O::Product({rows, n, r0 + rows}, O::PackedTransposed(by_i + r0, q), b_rows, {dc + r0 * n, n, true});
  }
  for (int64_t j = 0; j < length; ++j) {
    T *to_b = a.out.dB.As<T>(c.begin + j) + group * n, *to_c = a.out.dC.As<T>(c.begin + j) + group * n;
    ForVectors(d, n, [&](int64_t k, auto part) HWY_ATTR {
      Store(Load(d, db + j * n + k, part), d, to_b + k, part);
      Store(Load(d, dc + j * n + k, part), d, to_c + k, part);
    });
  }
}
void Group(const BackwardArgs& a, const Chunk& c, int64_t group, void* scratch) {
  WithElementType(a.in.x.dtype, [&](auto t) { GroupChunk<decltype(t)>(a, c, group, scratch); });
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {

namespace ssd {
HWY_EXPORT(Walk);
HWY_EXPORT(Group);

namespace {

// The dispatch needs this namespace where there is one target only.
void RunWalk(const BackwardArgs& a, int64_t segment, int64_t block, const BackwardScratch& s) {
  HWY_DYNAMIC_DISPATCH(Walk)(a, segment, block, s);
}
void RunGroup(const BackwardArgs& a, const Chunk& c, int64_t group, void* scratch) {
  HWY_DYNAMIC_DISPATCH(Group)(a, c, group, scratch);
}

}  // namespace
}  // namespace ssd

void SsdBackward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments,
                 const void* entering_states, const SsdGradients& out, Arena& scratch) {
  CHECK(out.dy.dtype == in.x.dtype && out.dx.dtype == in.x.dtype && out.dB.dtype == in.x.dtype);
  Arena::Scope scope(scratch);
  const ssd::HeadBlocks blocks = ssd::BlocksOf(shape);
  const ssd::ChunkList list = ssd::ListChunks(shape, segments, scratch);
  const int64_t state = shape.d_state * blocks.width, q = ssd::PaddedChunk(shape);
  const ssd::BackwardArgs args{
      .shape = shape,
      .in = in,
      .segments = segments,
      .out = out,
      .list = list,
      .blocks = blocks,
      .groups = ssd::PrepareGroups(shape, in, list, /*transposed=*/true, scratch),
      .entering = ConstMatrixView(entering_states, in.x.dtype, list.count * blocks.count, state, state),
      .db = scratch.Floats(blocks.count * in.x.rows * shape.d_state),
      .dc = scratch.Floats(blocks.count * in.x.rows * shape.d_state),
      .dproducts = scratch.Floats(blocks.count * in.x.rows * q),
      .da_dd = scratch.Floats(2 * list.count * shape.heads)};
  int64_t per_thread = 0;
  ssd::BackwardScratch(shape, blocks, nullptr, &per_thread);
  char* buffers = static_cast<char*>(scratch.Bytes(NumThreads() * per_thread));
  ParallelFor(static_cast<int64_t>(segments.size()) * blocks.count, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.x.dtype);
    const ssd::BackwardScratch s(shape, blocks, buffers + thread * per_thread, nullptr);
    ssd::RunWalk(args, task / blocks.count, task % blocks.count, s);
  });
  float* squares = scratch.Floats(NumThreads() * 2 * q * q);
  ParallelFor(list.count * shape.groups, [&](int64_t task, int thread) {
    const ManyTileProducts products(in.x.dtype);
    ssd::RunGroup(args, list.chunks[task / shape.groups], task % shape.groups, squares + thread * 2 * q * q);
  });
  for (int64_t head = 0; head < shape.heads; ++head) {
    double d_a = 0, d_d = 0;
    for (int64_t c = 0; c < list.count; ++c) {
      d_a += args.da_dd[2 * (c * shape.heads + head)];
      d_d += args.da_dd[2 * (c * shape.heads + head) + 1];
    }
    out.dA[head] += static_cast<float>(d_a);
    out.dD[head] += static_cast<float>(d_d);
  }
}

}  // namespace taipan
#endif  // HWY_ONCE
