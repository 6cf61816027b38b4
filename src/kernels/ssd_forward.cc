// Forward of the chunked SSD. Three passes over (chunk, head): what each chunk adds to the state, the states passed
// along each sequence, the outputs. A chunk of one token takes the recurrence itself: the decode step.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ssd_forward.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>
#include <cstring>

#include "base/parallel.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/ssd_internal.h"
#include "kernels/tile_gemm-inl.h"

#ifndef TAIPAN_SSD_FORWARD_ONCE_
#define TAIPAN_SSD_FORWARD_ONCE_
namespace taipan::ssd {

struct OutputScratch {
  float* dt;  // [length] dt of the head, adjacent
  float* st;  // [N, P] the entering state, transposed
  float* m;   // [16, length] rows of the triangle
};

}  // namespace taipan::ssd
#endif

HWY_BEFORE_NAMESPACE();
namespace taipan::ssd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace taipan::HWY_NAMESPACE;  // NOLINT: the tile kernels of this target

constexpr int64_t kRowBlock =
    16;  // rows of the triangle handled together: nothing above the diagonal block is computed

// cb[i * ldcb + j] = C_i . B_j for j <= i (more within a row block). bt: scratch [N, length].
void Products(const SsdShape& shape, const SsdInputs& in, const Chunk& c, int64_t group, float* bt, float* cb,
              int64_t ldcb) {
  const int64_t n = shape.d_state;
  TileTranspose(c.length, n, in.B.F32(c.begin) + group * n, in.B.stride, bt, c.length);
  for (int64_t i0 = 0; i0 < c.length; i0 += kRowBlock) {
    const int64_t rows = std::min(kRowBlock, c.length - i0);
    TileGemm(rows, i0 + rows, n, {in.C.F32(c.begin + i0) + group * n, in.C.stride, 1}, bt, c.length, cb + i0 * ldcb,
             ldcb, false);
  }
}

// z[P, N] = sum_j exp(cum_last - cum_j) dt_j x_j B_j^T. xs: scratch [length, P].
void LocalState(const SsdShape& shape, const SsdInputs& in, const Chunk& c, int64_t head, const float* to_end,
                float* xs, float* z) {
  const int64_t p = shape.head_dim, n = shape.d_state;
  for (int64_t j = 0; j < c.length; ++j) {
    TileScale(p, to_end[j] * in.dt.F32(c.begin + j)[head], in.x.F32(c.begin + j) + head * p, xs + j * p);
  }
  const int64_t group = head / (shape.heads / shape.groups);
  TileGemm(p, n, c.length, {xs, 1, p}, in.B.F32(c.begin) + group * n, in.B.stride, z, n, false);
}

// m[j] = cb[j] * exp(cum_i - cum_j) * dt_j for j <= i, 0 for i < j < width.
void MaskRow(int64_t i, int64_t width, const float* cb, const float* cum, const float* dt, float* m) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto cum_i = hn::Set(d, cum[i]);
  int64_t j = 0;
  for (; j + lanes <= i + 1; j += lanes) {
    const auto decay = hn::Exp(d, hn::Sub(cum_i, hn::LoadU(d, cum + j)));
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, cb + j), decay), hn::LoadU(d, dt + j)), d, m + j);
  }
  if (j <= i) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(i + 1 - j));
    const auto diff = hn::Sub(hn::IfThenElseZero(mask, cum_i), hn::MaskedLoad(mask, d, cum + j));
    const auto value =
        hn::Mul(hn::Mul(hn::MaskedLoad(mask, d, cb + j), hn::Exp(d, diff)), hn::MaskedLoad(mask, d, dt + j));
    hn::BlendedStore(value, mask, d, m + j);
  }
  for (j = i + 1; j < width; ++j) m[j] = 0;
}

// y_i = exp(cum_i) S C_i + sum_{j<=i} m_ij x_j + D x_i
void Output(const SsdShape& shape, const SsdInputs& in, const Chunk& c, int64_t head, Decay decay, const float* cb,
            int64_t ldcb, const float* entering, OutputScratch s, MatrixView y) {
  const int64_t p = shape.head_dim, n = shape.d_state, length = c.length;
  const int64_t group = head / (shape.heads / shape.groups);
  for (int64_t j = 0; j < length; ++j) s.dt[j] = in.dt.F32(c.begin + j)[head];
  if (!c.zero_state) TileTranspose(p, n, entering, n, s.st, p);
  for (int64_t i0 = 0; i0 < length; i0 += kRowBlock) {
    const int64_t rows = std::min(kRowBlock, length - i0), width = i0 + rows;
    float* yb = y.F32(c.begin + i0) + head * p;
    if (!c.zero_state) {
      TileGemm(rows, p, n, {in.C.F32(c.begin + i0) + group * n, in.C.stride, 1}, s.st, p, yb, y.stride, false);
      for (int64_t i = 0; i < rows; ++i) TileScale(p, decay.from_start[i0 + i], yb + i * y.stride, yb + i * y.stride);
    }
    for (int64_t i = 0; i < rows; ++i) MaskRow(i0 + i, width, cb + (i0 + i) * ldcb, decay.cum, s.dt, s.m + i * width);
    TileGemm(rows, p, width, {s.m, width, 1}, in.x.F32(c.begin) + head * p, in.x.stride, yb, y.stride, !c.zero_state);
    for (int64_t i = 0; i < rows; ++i) {
      TileAxpy(p, in.D[head], in.x.F32(c.begin + i0 + i) + head * p, yb + i * y.stride);
    }
  }
}

// One token: S <- exp(dt A) S + dt x B^T, y = S C + D x. state_out may be state_in.
void Step(const SsdShape& shape, const SsdInputs& in, int64_t row, int64_t head, const float* state_in,
          float* state_out, float* y) {
  const int64_t p = shape.head_dim, n = shape.d_state;
  const int64_t group = head / (shape.heads / shape.groups);
  const float dt = in.dt.F32(row)[head];
  const float decay = std::exp(dt * in.A[head]);
  const float* x = in.x.F32(row) + head * p;
  const float* b = in.B.F32(row) + group * n;
  const float* c = in.C.F32(row) + group * n;
  for (int64_t i = 0; i < p; ++i) {
    float* s = state_out + i * n;
    TileScale(n, decay, state_in + i * n, s);
    TileAxpy(n, dt * x[i], b, s);
    y[i] = TileDot(n, s, c) + in.D[head] * x[i];
  }
}

// state = decay * from + add.
void PassState(int64_t size, float decay, const float* from, const float* add, float* state) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto dv = hn::Set(d, decay);
  int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    hn::StoreU(hn::MulAdd(dv, hn::LoadU(d, from + i), hn::LoadU(d, add + i)), d, state + i);
  }
  for (; i < size; ++i) state[i] = decay * from[i] + add[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan::ssd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan::ssd {

HWY_EXPORT(Products);
HWY_EXPORT(LocalState);
HWY_EXPORT(Output);
HWY_EXPORT(Step);
HWY_EXPORT(PassState);

ChunkList ListChunks(const SsdShape& shape, std::span<const SsdSegment> segments, Arena& arena) {
  ChunkList list{arena.Array<Chunk>(SsdChunks(shape, segments)), 0};
  for (size_t s = 0; s < segments.size(); ++s) {
    const SsdSegment& seg = segments[s];
    for (int64_t at = 0; at < seg.length;) {
      const int64_t length = at == 0 ? FirstChunkLength(shape, seg) : std::min(shape.chunk, seg.length - at);
      list.chunks[list.count++] = {
          static_cast<int64_t>(s),           seg.begin + at, length, at == 0, at + length == seg.length,
          at == 0 && seg.state_in == nullptr};
      at += length;
    }
  }
  return list;
}

float* GroupProducts(const SsdShape& shape, const SsdInputs& in, ChunkList list, Arena& scratch, bool single_tokens) {
  const int64_t q = shape.chunk, ldcb = shape.groups * q;
  float* cb = scratch.Floats(in.x.rows * ldcb);
  Arena::Scope scope(scratch);
  float* transposed = scratch.Floats(NumThreads() * shape.d_state * q);
  ParallelFor(list.count * shape.groups, [&](int64_t task, int thread) {
    const Chunk& c = list.chunks[task / shape.groups];
    const int64_t group = task % shape.groups;
    if (c.length == 1 && !single_tokens) return;
    HWY_DYNAMIC_DISPATCH(Products)
    (shape, in, c, group, transposed + thread * shape.d_state * q, cb + c.begin * ldcb + group * q, ldcb);
  });
  return cb;
}

void ChunkDecay(const SsdInputs& in, const Chunk& c, int64_t head, Decay out) {
  double cum = 0;
  for (int64_t i = 0; i < c.length; ++i) {
    cum += static_cast<double>(in.dt.F32(c.begin + i)[head]) * in.A[head];
    out.cum[i] = static_cast<float>(cum);
    out.from_start[i] = static_cast<float>(std::exp(cum));
  }
  double rest = 0;
  for (int64_t i = c.length; i-- > 0;) {
    out.to_end[i] = static_cast<float>(std::exp(rest));
    rest += static_cast<double>(in.dt.F32(c.begin + i)[head]) * in.A[head];
  }
}

namespace {

struct Forward {
  const SsdShape& shape;
  const SsdInputs& in;
  std::span<const SsdSegment> segments;
  ChunkList list;
  float* entering;  // [chunks, H, P, N]
  float* leaving;   // [segments, H, P, N]: the local state of each segment's last chunk
  bool keep;        // entering states are wanted afterwards

  int64_t head_state() const { return shape.head_dim * shape.d_state; }
  float* Entering(int64_t chunk, int64_t head) const { return entering + (chunk * shape.heads + head) * head_state(); }
  float* Leaving(int64_t segment, int64_t head) const {
    return leaving + (segment * shape.heads + head) * head_state();
  }
  bool NeedsLocalState(const Chunk& c) const {
    return c.length > 1 && (!c.last || segments[static_cast<size_t>(c.segment)].state_out != nullptr);
  }

  // Decay [3, chunk] of the head in the thread's scratch.
  static Decay DecayIn(float* scratch, int64_t chunk) { return {scratch, scratch + chunk, scratch + 2 * chunk}; }

  void LocalStates(float* scratch, int64_t per_thread) const {
    ParallelFor(list.count * shape.heads, [&](int64_t task, int thread) {
      const int64_t index = task / shape.heads, head = task % shape.heads;
      const Chunk& c = list.chunks[index];
      if (!NeedsLocalState(c)) return;
      float* mine = scratch + thread * per_thread;
      const Decay decay = DecayIn(mine, shape.chunk);
      ChunkDecay(in, c, head, decay);
      float* z = c.last ? Leaving(c.segment, head) : Entering(index + 1, head);
      HWY_DYNAMIC_DISPATCH(LocalState)(shape, in, c, head, decay.to_end, mine + 3 * shape.chunk, z);
    });
  }

  double Decayed(const Chunk& c, int64_t head) const {
    double sum = 0;
    for (int64_t i = 0; i < c.length; ++i) sum += static_cast<double>(in.dt.F32(c.begin + i)[head]) * in.A[head];
    return std::exp(sum);
  }

  // Per (segment, head): the true entering states from the local ones, one-token chunks stepped on the way.
  void PassStates(MatrixView y) const {
    const int64_t size = head_state();
    ParallelFor(static_cast<int64_t>(segments.size()) * shape.heads, [&](int64_t task) {
      const int64_t segment = task / shape.heads, head = task % shape.heads;
      const SsdSegment& seg = segments[static_cast<size_t>(segment)];
      const float* state = seg.state_in ? seg.state_in + head * size : nullptr;
      if (seg.length == 0) {
        if (seg.state_out == nullptr) return;
        if (state == nullptr) std::memset(seg.state_out + head * size, 0, static_cast<size_t>(size) * 4);
        if (state != nullptr) std::memmove(seg.state_out + head * size, state, static_cast<size_t>(size) * 4);
        return;
      }
      for (int64_t index = FirstChunk(segment); index < list.count && list.chunks[index].segment == segment; ++index) {
        const Chunk& c = list.chunks[index];
        const bool straight = c.first && state != nullptr && c.length == 1 && !keep;  // the decode step: no copy
        if (c.first && !straight) {
          if (state != nullptr) std::memcpy(Entering(index, head), state, static_cast<size_t>(size) * 4);
          if (state == nullptr) std::memset(Entering(index, head), 0, static_cast<size_t>(size) * 4);
        }
        const float* entering_here = straight ? state : Entering(index, head);
        float* out = seg.state_out ? seg.state_out + head * size : Leaving(segment, head);
        float* next = c.last ? out : Entering(index + 1, head);
        if (c.length == 1) {
          HWY_DYNAMIC_DISPATCH(Step)
          (shape, in, c.begin, head, entering_here, next, y.F32(c.begin) + head * shape.head_dim);
        } else if (NeedsLocalState(c)) {
          const float* local = c.last ? Leaving(segment, head) : next;
          HWY_DYNAMIC_DISPATCH(PassState)(size, static_cast<float>(Decayed(c, head)), entering_here, local, next);
        }
      }
    });
  }

  int64_t FirstChunk(int64_t segment) const {
    int64_t index = 0;
    for (int64_t s = 0; s < segment; ++s) {
      const SsdSegment& seg = segments[static_cast<size_t>(s)];
      index += SsdChunks(shape, std::span(&seg, 1));
    }
    return index;
  }

  void Outputs(const float* cb, float* scratch, int64_t per_thread, MatrixView y) const {
    const int64_t q = shape.chunk, ldcb = shape.groups * q;
    ParallelFor(list.count * shape.heads, [&](int64_t task, int thread) {
      const int64_t index = task / shape.heads, head = task % shape.heads;
      const Chunk& c = list.chunks[index];
      if (c.length == 1) return;
      float* mine = scratch + thread * per_thread;
      const Decay decay = DecayIn(mine, q);
      ChunkDecay(in, c, head, decay);
      mine += 3 * q;
      const int64_t group = head / (shape.heads / shape.groups);
      HWY_DYNAMIC_DISPATCH(Output)
      (shape, in, c, head, decay, cb + c.begin * ldcb + group * q, ldcb, Entering(index, head),
       {mine, mine + q, mine + q + head_state()}, y);
    });
  }
};

}  // namespace
}  // namespace taipan::ssd

namespace taipan {

int64_t SsdChunks(const SsdShape& shape, std::span<const SsdSegment> segments) {
  int64_t count = 0;
  for (const SsdSegment& s : segments) {
    if (s.length == 0) continue;
    const int64_t first = ssd::FirstChunkLength(shape, s);
    count += 1 + (s.length - first + shape.chunk - 1) / shape.chunk;
  }
  return count;
}

void SsdForward(const SsdShape& shape, const SsdInputs& in, std::span<const SsdSegment> segments, MatrixView y,
                float* entering_states, Arena& scratch) {
  CHECK_EQ(in.x.cols, shape.heads * shape.head_dim);
  CHECK_EQ(in.B.cols, shape.groups * shape.d_state);
  CHECK_EQ(shape.heads % shape.groups, 0);
  Arena::Scope scope(scratch);
  const ssd::ChunkList list = ssd::ListChunks(shape, segments, scratch);
  const int64_t n_segments = static_cast<int64_t>(segments.size());
  const bool keep = entering_states != nullptr;
  if (!keep) entering_states = scratch.Floats(list.count * shape.state_size());
  float* leaving = scratch.Floats(n_segments * shape.state_size());
  const ssd::Forward forward{shape, in, segments, list, entering_states, leaving, keep};
  const int64_t q = shape.chunk;
  // Decay 3q, then LocalState's xs [q, P] or Output's dt [q], S^T [N, P], mask rows [16, q].
  const int64_t per_thread = 3 * q + std::max(q * shape.head_dim, q + shape.head_dim * shape.d_state + 16 * q);
  float* buffers = scratch.Floats(NumThreads() * per_thread);
  forward.LocalStates(buffers, per_thread);
  forward.PassStates(y);
  const float* cb = ssd::GroupProducts(shape, in, list, scratch, false);
  forward.Outputs(cb, buffers, per_thread, y);
}

}  // namespace taipan
#endif  // HWY_ONCE
