// Backward of the chunked SSD (derivation: docs/math/ssd.md). Passes: what each chunk's outputs ask of the state that
// entered it, the state gradients passed back along each sequence, then everything else chunk by chunk.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ssd_backward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/ssd_internal.h"
#include "kernels/tile_gemm-inl.h"

#ifndef TAIPAN_SSD_BACKWARD_ONCE_
#define TAIPAN_SSD_BACKWARD_ONCE_
namespace taipan::ssd {

// Scratch of one thread; Q rows of a chunk.
struct BackwardScratch {
  Decay decay;    // 3 x [Q]
  float* dt;      // [Q]
  float* dcum;    // [Q]
  float* ddt;     // [Q]
  float* xt;      // [P, Q]
  float* scaled;  // [Q, P]
  float* gt;      // [N, P]
  float* r;       // [Q, P]
  float* dm;      // [Q, Q]
  float* dcb;     // [Q, Q] summed over the heads of a group
  float* tmp;     // [Q, N]
};

struct BackwardArgs {
  const SsdShape& shape;
  const SsdInputs& in;
  ConstMatrixView dy;
  const SsdGradients& out;
};

}  // namespace taipan::ssd
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

constexpr int64_t kBlock = 16;

// f[P, N] = sum_i exp(cum_i) dy_i C_i^T.
void StateDemand(const BackwardArgs& a, const Chunk& c, int64_t head, const float* from_start, float* scaled,
                 float* f) {
  const int64_t p = a.shape.head_dim, n = a.shape.d_state;
  for (int64_t i = 0; i < c.length; ++i) {
    TileScale(p, from_start[i], a.dy.F32(c.begin + i) + head * p, scaled + i * p);
  }
  const int64_t group = head / (a.shape.heads / a.shape.groups);
  TileGemm(p, n, c.length, {scaled, 1, p}, a.in.C.F32(c.begin) + group * n, a.in.C.stride, f, n, false);
}

// leaving (the demand of this chunk on entry) <- g, and g <- decay * g + demand: one step back along the sequence.
void PassBack(int64_t size, float decay, float* g, float* leaving) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto demand = hn::LoadU(d, leaving + i), gv = hn::LoadU(d, g + i);
    hn::StoreU(gv, d, leaving + i);
    hn::StoreU(hn::MulAdd(hn::Set(d, decay), gv, demand), d, g + i);
  }
  for (; i < size; ++i) {
    const float demand = leaving[i];
    leaving[i] = g[i];
    g[i] = decay * g[i] + demand;
  }
}

// Row i of the triangle, j <= i, with E_j = exp(cum_i - cum_j): turns dm (dY_i . x_j) into m (cb E dt), adds dm E dt to
// dcb and dm cb E to ddt; returns sum_j dm cb E dt, whose parts are also taken from dcum_j.
float TriangleRow(int64_t i, int64_t width, const float* cb, const BackwardScratch& s, float* dm, float* dcb) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto cum_i = hn::Set(d, s.decay.cum[i]);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j <= i; j += lanes) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(std::min(lanes, i + 1 - j)));
    const auto load = [&](const float* p) { return hn::MaskedLoad(mask, d, p + j); };
    const auto decay = hn::Exp(d, hn::Sub(hn::IfThenElseZero(mask, cum_i), load(s.decay.cum)));
    const auto dt = load(s.dt), grad = load(dm);
    const auto m_no_dt = hn::Mul(load(cb), decay);
    const auto w_no_dt = hn::Mul(grad, m_no_dt);
    const auto w = hn::Mul(w_no_dt, dt);
    sum = hn::Add(sum, w);
    hn::BlendedStore(hn::Add(load(s.ddt), w_no_dt), mask, d, s.ddt + j);
    hn::BlendedStore(hn::Sub(load(s.dcum), w), mask, d, s.dcum + j);
    hn::BlendedStore(hn::MulAdd(hn::Mul(grad, decay), dt, load(dcb)), mask, d, dcb + j);
    hn::BlendedStore(hn::Mul(m_no_dt, dt), mask, d, dm + j);
  }
  for (int64_t j = i + 1; j < width; ++j) dm[j] = 0;
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Within the chunk: dx from m, dcb, and the decay's and dt's shares. dx is written.
void BackwardTriangle(const BackwardArgs& a, const Chunk& c, int64_t head, const float* cb, int64_t ldcb,
                      const BackwardScratch& s) {
  const int64_t p = a.shape.head_dim, length = c.length, q = a.shape.chunk;
  TileTranspose(length, p, a.in.x.F32(c.begin) + head * p, a.in.x.stride, s.xt, length);
  for (int64_t i0 = 0; i0 < length; i0 += kBlock) {
    const int64_t rows = std::min(kBlock, length - i0), width = i0 + rows;
    TileGemm(rows, width, p, {a.dy.F32(c.begin + i0) + head * p, a.dy.stride, 1}, s.xt, length, s.dm + i0 * q, q,
             false);
    for (int64_t i = i0; i < width; ++i) {
      s.dcum[i] += TriangleRow(i, width, cb + i * ldcb, s, s.dm + i * q, s.dcb + i * q);
    }
  }
  for (int64_t j0 = 0; j0 < length; j0 += kBlock) {
    const int64_t rows = std::min(kBlock, length - j0);
    TileGemm(rows, p, length - j0, {s.dm + j0 * q + j0, 1, q}, a.dy.F32(c.begin + j0) + head * p, a.dy.stride,
             a.out.dx.F32(c.begin + j0) + head * p, a.out.dx.stride, false);
  }
}

// Through the state that leaves (g = its gradient [P, N]): dx, dB, dt, decay. Returns what the last cum receives.
float BackwardLeaving(const BackwardArgs& a, const Chunk& c, int64_t head, const float* g, const BackwardScratch& s) {
  const int64_t p = a.shape.head_dim, n = a.shape.d_state;
  const int64_t group = head / (a.shape.heads / a.shape.groups);
  TileTranspose(p, n, g, n, s.gt, p);
  TileGemm(c.length, p, n, {a.in.B.F32(c.begin) + group * n, a.in.B.stride, 1}, s.gt, p, s.r, p, false);  // r_j = G B_j
  float dcum_last = 0;
  for (int64_t j = 0; j < c.length; ++j) {
    const float* x = a.in.x.F32(c.begin + j) + head * p;
    const float weight = s.decay.to_end[j] * s.dt[j];
    const float direct = s.decay.to_end[j] * TileDot(p, x, s.r + j * p);
    TileAxpy(p, weight, s.r + j * p, a.out.dx.F32(c.begin + j) + head * p);
    TileScale(p, weight, x, s.scaled + j * p);
    s.ddt[j] += direct;
    s.dcum[j] -= s.dt[j] * direct;
    dcum_last += s.dt[j] * direct;
  }
  TileGemm(c.length, n, p, {s.scaled, p, 1}, g, n, a.out.dB.F32(c.begin) + group * n, a.out.dB.stride, true);
  return dcum_last;
}

// Through the state that entered: dC, decay. Returns exp(cum_last) <G, S>.
float BackwardEntering(const BackwardArgs& a, const Chunk& c, int64_t head, const float* g, const float* entering,
                       const BackwardScratch& s) {
  const int64_t p = a.shape.head_dim, n = a.shape.d_state;
  const int64_t group = head / (a.shape.heads / a.shape.groups);
  for (int64_t i = 0; i < c.length; ++i) {
    TileScale(p, s.decay.from_start[i], a.dy.F32(c.begin + i) + head * p, s.scaled + i * p);
  }
  TileGemm(c.length, n, p, {s.scaled, p, 1}, entering, n, s.tmp, n, false);
  for (int64_t i = 0; i < c.length; ++i) {
    s.dcum[i] += TileDot(n, s.tmp + i * n, a.in.C.F32(c.begin + i) + group * n);
    TileAxpy(n, 1.0f, s.tmp + i * n, a.out.dC.F32(c.begin + i) + group * n);
  }
  return s.decay.from_start[c.length - 1] * TileDot(p * n, g, entering);
}

// All of one head in one chunk. da_dd[0], [1]: dA and dD of this chunk.
void BackwardHead(const BackwardArgs& a, const Chunk& c, int64_t head, const float* cb, int64_t ldcb, const float* g,
                  const float* entering, const BackwardScratch& s, float* da_dd) {
  const int64_t p = a.shape.head_dim, length = c.length;
  for (int64_t i = 0; i < length; ++i) {
    s.dt[i] = a.in.dt.F32(c.begin + i)[head];
    s.dcum[i] = s.ddt[i] = 0;
  }
  BackwardTriangle(a, c, head, cb, ldcb, s);
  float dcum_last = BackwardLeaving(a, c, head, g, s);
  if (!c.zero_state) dcum_last += BackwardEntering(a, c, head, g, entering, s);
  s.dcum[length - 1] += dcum_last;
  double running = 0, d_a = 0, d_d = 0;
  for (int64_t i = length; i-- > 0;) {
    running += s.dcum[i];  // d / d (dt_i A): every cum from i on holds it
    d_a += running * s.dt[i];
    a.out.ddt.F32(c.begin + i)[head] = s.ddt[i] + static_cast<float>(running) * a.in.A[head];
    const float* x = a.in.x.F32(c.begin + i) + head * p;
    const float* dy = a.dy.F32(c.begin + i) + head * p;
    d_d += TileDot(p, x, dy);
    TileAxpy(p, a.in.D[head], dy, a.out.dx.F32(c.begin + i) + head * p);
  }
  da_dd[0] = static_cast<float>(d_a);
  da_dd[1] = static_cast<float>(d_d);
}

// dC += dcb B, dB += dcb^T C: once a group, after its heads.
void BackwardProducts(const BackwardArgs& a, const Chunk& c, int64_t group, const BackwardScratch& s) {
  const int64_t n = a.shape.d_state, q = a.shape.chunk;
  for (int64_t i0 = 0; i0 < c.length; i0 += kBlock) {
    const int64_t rows = std::min(kBlock, c.length - i0);
    TileGemm(rows, n, i0 + rows, {s.dcb + i0 * q, q, 1}, a.in.B.F32(c.begin) + group * n, a.in.B.stride,
             a.out.dC.F32(c.begin + i0) + group * n, a.out.dC.stride, true);
    TileGemm(rows, n, c.length - i0, {s.dcb + i0 * q + i0, 1, q}, a.in.C.F32(c.begin + i0) + group * n, a.in.C.stride,
             a.out.dB.F32(c.begin + i0) + group * n, a.out.dB.stride, true);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan::ssd {

HWY_EXPORT(StateDemand);
HWY_EXPORT(PassBack);
HWY_EXPORT(BackwardHead);
HWY_EXPORT(BackwardProducts);

namespace {

int64_t ScratchFloats(const SsdShape& s) {
  const int64_t q = s.chunk, p = s.head_dim, n = s.d_state;
  return 6 * q + 3 * p * q + n * p + 2 * q * q + q * n;
}

BackwardScratch Carve(const SsdShape& shape, float* at) {
  const int64_t q = shape.chunk, p = shape.head_dim, n = shape.d_state;
  const auto take = [&](int64_t floats) {
    float* here = at;
    at += floats;
    return here;
  };
  BackwardScratch s;
  s.decay = {take(q), take(q), take(q)};
  s.dt = take(q);
  s.dcum = take(q);
  s.ddt = take(q);
  s.xt = take(p * q);
  s.scaled = take(q * p);
  s.gt = take(n * p);
  s.r = take(q * p);
  s.dm = take(q * q);
  s.dcb = take(q * q);
  s.tmp = take(q * n);
  return s;
}

struct Backward {
  const BackwardArgs& args;
  std::span<const SsdSegment> segments;
  ChunkList list;
  const float* entering;  // [chunks, H, P, N]
  float* leaving;         // [chunks, H, P, N]: gradient of the state that leaves each chunk
  float* scratch;
  int64_t per_thread;

  int64_t head_state() const { return args.shape.head_dim * args.shape.d_state; }
  int64_t At(int64_t chunk, int64_t head) const { return (chunk * args.shape.heads + head) * head_state(); }
  BackwardScratch Mine(int thread) const { return Carve(args.shape, scratch + thread * per_thread); }

  void Demands() const {
    ParallelFor(list.count * args.shape.heads, [&](int64_t task, int thread) {
      const int64_t index = task / args.shape.heads, head = task % args.shape.heads;
      const BackwardScratch s = Mine(thread);
      ChunkDecay(args.in, list.chunks[index], head, s.decay);
      HWY_DYNAMIC_DISPATCH(StateDemand)
      (args, list.chunks[index], head, s.decay.from_start, s.scaled, leaving + At(index, head));
    });
  }

  void PassGradients() const {
    const int64_t heads = args.shape.heads, size = head_state();
    ParallelFor(static_cast<int64_t>(segments.size()) * heads, [&](int64_t task, int thread) {
      const int64_t segment = task / heads, head = task % heads;
      const SsdSegment& seg = segments[static_cast<size_t>(segment)];
      float* g = scratch + thread * per_thread;
      if (seg.dstate_out != nullptr) {
        std::memcpy(g, seg.dstate_out + head * size, static_cast<size_t>(size) * 4);
      } else {
        std::memset(g, 0, static_cast<size_t>(size) * 4);
      }
      for (int64_t index = list.count; index-- > 0;) {
        const Chunk& c = list.chunks[index];
        if (c.segment != segment) continue;
        double sum = 0;
        for (int64_t i = 0; i < c.length; ++i)
          sum += static_cast<double>(args.in.dt.F32(c.begin + i)[head]) * args.in.A[head];
        HWY_DYNAMIC_DISPATCH(PassBack)(size, static_cast<float>(std::exp(sum)), g, leaving + At(index, head));
      }
      if (seg.dstate_in != nullptr) std::memcpy(seg.dstate_in + head * size, g, static_cast<size_t>(size) * 4);
    });
  }

  void Chunks(const float* cb, float* da_dd) const {
    const SsdShape& shape = args.shape;
    const int64_t q = shape.chunk, ldcb = shape.groups * q, per_group = shape.heads / shape.groups;
    ParallelFor(list.count * shape.groups, [&](int64_t task, int thread) {
      const int64_t index = task / shape.groups, group = task % shape.groups;
      const Chunk& c = list.chunks[index];
      const BackwardScratch s = Mine(thread);
      std::memset(s.dcb, 0, static_cast<size_t>(q * q) * 4);
      args.out.dB.Rows(c.begin, c.length).Cols(group * shape.d_state, shape.d_state).Zero();
      args.out.dC.Rows(c.begin, c.length).Cols(group * shape.d_state, shape.d_state).Zero();
      for (int64_t head = group * per_group; head < (group + 1) * per_group; ++head) {
        ChunkDecay(args.in, c, head, s.decay);
        HWY_DYNAMIC_DISPATCH(BackwardHead)
        (args, c, head, cb + c.begin * ldcb + group * q, ldcb, leaving + At(index, head), entering + At(index, head), s,
         da_dd + 2 * (index * shape.heads + head));
      }
      HWY_DYNAMIC_DISPATCH(BackwardProducts)(args, c, group, s);
    });
  }
};

}  // namespace
}  // namespace taipan::ssd

namespace taipan {

void SsdBackward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments,
                 const float* entering_states, ConstMatrixView dy, const SsdGradients& out, Arena& scratch) {
  Arena::Scope scope(scratch);
  const ssd::ChunkList list = ssd::ListChunks(shape, segments, scratch);
  const int64_t per_thread = ssd::ScratchFloats(shape);
  float* leaving = scratch.Floats(list.count * shape.state_size());
  float* da_dd = scratch.Floats(2 * list.count * shape.heads);
  float* buffers = scratch.Floats(NumThreads() * per_thread);
  const ssd::BackwardArgs args{shape, in, dy, out};
  const ssd::Backward backward{args, segments, list, entering_states, leaving, buffers, per_thread};
  backward.Demands();
  backward.PassGradients();
  backward.Chunks(ssd::GroupProducts(shape, in, list, scratch, true), da_dd);
  for (int64_t head = 0; head < shape.heads; ++head) {
    double d_a = 0, d_d = 0;
    for (int64_t c = 0; c < list.count; ++c) {
      d_a += da_dd[2 * (c * shape.heads + head)];
      d_d += da_dd[2 * (c * shape.heads + head) + 1];
    }
    out.dA[head] += static_cast<float>(d_a);
    out.dD[head] += static_cast<float>(d_d);
  }
}

}  // namespace taipan
#endif  // HWY_ONCE
