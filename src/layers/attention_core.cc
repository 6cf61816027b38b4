#include "layers/attention_core.h"

#include <algorithm>
#include <cstring>

#include "base/op_timer.h"
#include "base/parallel.h"
#include "kernels/convert.h"
#include "kernels/rope.h"
#include "kernels/tile_partials.h"

namespace taipan {
namespace {

// Positions of all T rows, from the segments.
int64_t* RowPositions(std::span<const LayerSegment> segments, int64_t t, Arena& arena) {
  int64_t* positions = arena.Array<int64_t>(t);
  for (const LayerSegment& seg : segments) {
    for (int64_t i = 0; i < seg.length; ++i) positions[seg.begin + i] = seg.position + i;
  }
  return positions;
}

void GatherRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  const int64_t bytes = from.cols * SizeOf(from.dtype), from_stride = from.stride * SizeOf(from.dtype),
                to_stride = to.stride * SizeOf(to.dtype);
  ParallelForRanges(to.rows, RowGrain(to.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(static_cast<char*>(to.data) + i * to_stride,
                  static_cast<const char*>(from.data) + rows[i] * from_stride, static_cast<size_t>(bytes));
    }
  });
}

// rows: all different.
void AddRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  ParallelForRanges(from.rows, RowGrain(from.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* y = to.F32(rows[i]);
      const float* x = from.F32(i);
      for (int64_t c = 0; c < from.cols; ++c) y[c] += x[c];
    }
  });
}

void ZeroRows(MatrixView m) {
  ParallelForRanges(m.rows, RowGrain(m.cols),
                    [&](int64_t begin, int64_t end) { m.Rows(begin, std::min(end, m.rows) - begin).Zero(); });
}

// Of scores and their product with the values, both 2 * head_dim a pair and head.
double AttentionFlops(const AttentionShape& shape, const int64_t* positions,
                      std::span<const AttentionSegment> segments) {
  return 4.0 * static_cast<double>(shape.head_dim * shape.heads * VisiblePairs(shape, positions, segments));
}

struct KeyLists {
  AttentionSegment* segments;
  size_t n;
};

// Each segment's queries and keys: the pages of its past, then its own rows. dk, dv (null in forward) beside them; past
// gradients go to dpast_k / dpast_v[segment] where wanted.
KeyLists ListKeys(std::span<const LayerSegment> segments, const AttentionSaved& s, const KvCache* const* past,
                  const MatrixView* dkv, LayerStateGradient* const* dpast, Arena& arena) {
  KeyLists lists{arena.Array<AttentionSegment>(static_cast<int64_t>(segments.size())), segments.size()};
  int64_t query = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const LayerSegment& seg = segments[i];
    const int64_t pages = past[i] ? past[i]->pages() : 0;
    KeySpan* keys = arena.Array<KeySpan>(pages + 1);
    int64_t count = past[i] ? past[i]->Spans(0, keys) : 0;
    KeyGradientSpan* gradients = dkv ? arena.Array<KeyGradientSpan>(count + 1) : nullptr;
    for (int64_t j = 0; dkv && j < count; ++j) {
      gradients[j] = {};
      if (dpast == nullptr || dpast[i] == nullptr) continue;
      const int64_t offset = (keys[j].position - past[i]->first()) * past[i]->width();
      gradients[j] = {dpast[i]->dk.F32() + offset, dpast[i]->dv.F32() + offset};
    }
    const ConstMatrixView k = s.k.Rows(seg.begin, seg.length), v = s.v.Rows(seg.begin, seg.length);
    keys[count] = {k.data, v.data, k.dtype, k.stride, seg.position, seg.length};
    if (dkv) gradients[count] = {dkv[0].F32(seg.begin), dkv[1].F32(seg.begin)};
    ++count;
    const int64_t begin = query, row_end = seg.begin + seg.length;
    if (s.rows == nullptr) {
      query = row_end;
    } else {
      while (query < s.n && s.rows[query] < row_end) ++query;
    }
    lists.segments[i] = {begin, query - begin, {keys, static_cast<size_t>(count)}, {}};
    if (dkv) lists.segments[i].key_gradients = {gradients, static_cast<size_t>(count)};
  }
  return lists;
}

void AppendToStates(std::span<const LayerSegment> segments, const AttentionSaved& s) {
  for (const LayerSegment& seg : segments) {
    if (seg.state_out == nullptr) continue;
    if (seg.state_in == nullptr) {
      seg.state_out->kv.RestartAt(seg.position);
    } else if (seg.state_in != seg.state_out) {
      seg.state_out->kv = seg.state_in->kv;
    }
    seg.state_out->kv.Append(s.k.Rows(seg.begin, seg.length), s.v.Rows(seg.begin, seg.length));
  }
}

}  // namespace

AttentionProjections::AttentionProjections(const AttentionDims& dims) {
  q_proj.master = Tensor({dims.q_width(), dims.d_model});
  k_proj.master = Tensor({dims.kv_width(), dims.d_model});
  v_proj.master = Tensor({dims.kv_width(), dims.d_model});
  o_proj.master = Tensor({dims.d_model, dims.q_width()});
}

void AttentionProjections::ForEach(const ParamVisitor& visit) {
  visit({"attention.q_proj.weight", true, Init::kNormal, {}, &q_proj.bf16}, q_proj.master);
  visit({"attention.k_proj.weight", true, Init::kNormal, {}, &k_proj.bf16}, k_proj.master);
  visit({"attention.v_proj.weight", true, Init::kNormal, {}, &v_proj.bf16}, v_proj.master);
  visit({"attention.o_proj.weight", true, Init::kNormalResidual, {}, &o_proj.bf16}, o_proj.master);
}

namespace {

// Fills positions, uq, q, k and v.
void Project(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call, ConstMatrixView u,
             Arena& arena, AttentionSaved& s) {
  const int64_t t = u.rows, n = s.n;
  const int64_t* all_positions = RowPositions(call.segments, t, *call.scratch);
  s.k = arena.Matrix(t, dims.kv_width(), u.dtype);
  s.v = arena.Matrix(t, dims.kv_width(), u.dtype);
  {
    const OpTimer timer("k_proj, v_proj", 2 * LinearFlops(t, p.k_proj));
    Linear(u, p.k_proj, s.k);
    Linear(u, p.v_proj, s.v);
  }
  s.q = arena.Matrix(n, dims.q_width(), u.dtype);
  {
    const OpTimer timer("q_proj", LinearFlops(n, p.q_proj));
    s.positions = arena.Array<int64_t>(n);
    for (int64_t i = 0; i < n; ++i) s.positions[i] = all_positions[s.rows ? s.rows[i] : i];
    s.uq = u;
    if (s.rows) {
      const MatrixView gathered = arena.Matrix(n, u.cols, u.dtype);
      GatherRows(u, s.rows, gathered);
      s.uq = gathered;
    }
    Linear(s.uq, p.q_proj, s.q);
  }
  if (dims.rope.empty()) return;
  const OpTimer timer("rope");
  Rope(s.k, dims.shape.head_dim, dims.rope, {all_positions, static_cast<size_t>(t)});
  Rope(s.q, dims.shape.head_dim, dims.rope, {s.positions, static_cast<size_t>(n)});
}

}  // namespace

void AttendForward(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call, ConstMatrixView u,
                   const int64_t* rows, int64_t n, MatrixView o, Accumulate acc, AttentionSaved& s) {
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  s.rows = rows;
  s.n = n;
  Project(dims, p, call, u, arena, s);
  const KvCache** past = call.scratch->Array<const KvCache*>(static_cast<int64_t>(call.segments.size()));
  s.past.clear();
  for (size_t i = 0; i < call.segments.size(); ++i) {
    const LayerState* in = call.segments[i].state_in;
    past[i] = in ? &in->kv : nullptr;
    if (call.keep) s.past.push_back(in ? in->kv : KvCache());
  }
  s.context = arena.Matrix(n, dims.q_width(), u.dtype);
  s.lse = call.keep ? arena.Floats(n * dims.shape.heads) : nullptr;
  const KeyLists keys = ListKeys(call.segments, s, past, nullptr, nullptr, *call.scratch);
  const std::span<const AttentionSegment> segments(keys.segments, keys.n);
  {
    const OpTimer timer("attention", AttentionFlops(dims.shape, s.positions, segments));
    AttentionForward(dims.shape, s.q, s.positions, segments, s.context, s.lse, *call.scratch);
    AppendToStates(call.segments, s);
  }
  const OpTimer timer("o_proj", LinearFlops(n, p.o_proj));
  Linear(s.context, p.o_proj, o, acc);
}

namespace {

// Starts dk, dv [T, width] with the share of the outgoing states' gradients, and each wanted incoming gradient with
// what passes through untouched.
void SeedKeyGradients(const AttentionDims& dims, const BackwardCall& call, const AttentionSaved& s, MatrixView dk,
                      MatrixView dv) {
  ZeroRows(dk);
  ZeroRows(dv);
  for (size_t i = 0; i < call.segments.size(); ++i) {
    const LayerSegment& seg = call.segments[i];
    const KvCache& past = s.past[i];
    LayerStateGradient* in = call.dstate_in.empty() ? nullptr : call.dstate_in[i];
    if (in != nullptr) {
      in->dk = Tensor({past.count(), dims.kv_width()});
      in->dv = Tensor({past.count(), dims.kv_width()});
    }
    const LayerStateGradient* out = call.dstate_out.empty() ? nullptr : call.dstate_out[i];
    if (out == nullptr || out->dk.empty()) continue;
    const int64_t end = seg.position + seg.length, count = out->dk.shape()[0], width = dims.kv_width();
    for (int64_t j = 0; j < count; ++j) {
      const int64_t position = end - count + j;
      float *to_k = nullptr, *to_v = nullptr;
      if (position >= seg.position) {
        to_k = dk.F32(seg.begin + position - seg.position);
        to_v = dv.F32(seg.begin + position - seg.position);
      } else if (in != nullptr && position >= past.first()) {
        to_k = in->dk.F32() + (position - past.first()) * width;
        to_v = in->dv.F32() + (position - past.first()) * width;
      }
      if (to_k == nullptr) continue;
      std::memcpy(to_k, out->dk.F32() + j * width, static_cast<size_t>(width) * 4);
      std::memcpy(to_v, out->dv.F32() + j * width, static_cast<size_t>(width) * 4);
    }
  }
}

// dq of the queries and dkv of all keys, both before the rotation.
void AttentionGradients(const AttentionDims& dims, const BackwardCall& call, const AttentionSaved& s, int64_t t,
                        ConstMatrixView dcontext, MatrixView dq, const MatrixView dkv[2]) {
  Arena& scratch = *call.scratch;
  const KvCache** past = scratch.Array<const KvCache*>(static_cast<int64_t>(s.past.size()));
  for (size_t i = 0; i < s.past.size(); ++i) past[i] = s.past[i].count() > 0 ? &s.past[i] : nullptr;
  {
    const OpTimer timer("attention backward");
    SeedKeyGradients(dims, call, s, dkv[0], dkv[1]);
  }
  const KeyLists keys =
      ListKeys(call.segments, s, past, dkv, call.dstate_in.empty() ? nullptr : call.dstate_in.data(), scratch);
  const std::span<const AttentionSegment> segments(keys.segments, keys.n);
  {
    const OpTimer timer("attention backward", 2 * AttentionFlops(dims.shape, s.positions, segments));
    AttentionBackward(dims.shape, s.q, s.positions, segments, s.context, s.lse, dcontext, dq, scratch);
  }
  if (dims.rope.empty()) return;
  const OpTimer timer("rope backward");
  const int64_t* all_positions = RowPositions(call.segments, t, scratch);
  Rope(dkv[0], dims.shape.head_dim, dims.rope, {all_positions, static_cast<size_t>(t)}, -1);
  Rope(dq, dims.shape.head_dim, dims.rope, {s.positions, static_cast<size_t>(s.n)}, -1);
}

}  // namespace

void AttendBackward(const AttentionDims& dims, const AttentionProjections& p, const BackwardCall& call,
                    const AttentionSaved& s, ConstMatrixView u, ConstMatrixView d_o, MatrixView du,
                    AttentionProjections& grads) {
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = u.rows;
  const MatrixView dcontext = scratch.Matrix(s.n, dims.q_width(), u.dtype);
  const MatrixView dq = scratch.Matrix(s.n, dims.q_width(), u.dtype);
  const MatrixView dkv[2] = {scratch.Matrix(t, dims.kv_width()), scratch.Matrix(t, dims.kv_width())};
  {
    const OpTimer timer("o_proj backward", 2 * LinearFlops(s.n, p.o_proj));
    LinearBackwardInput(d_o, p.o_proj, dcontext);
    LinearBackwardWeight(d_o, s.context, grads.o_proj.master.Matrix());
  }
  AttentionGradients(dims, call, s, t, dcontext, dq, dkv);
  {
    const OpTimer timer("k_proj, v_proj backward", 4 * LinearFlops(t, p.k_proj));
    const ConstMatrixView dk = InDType(dkv[0], u.dtype, scratch), dv = InDType(dkv[1], u.dtype, scratch);
    LinearBackwardInput(dk, p.k_proj, du);
    LinearBackwardInput(dv, p.v_proj, du, Accumulate::kAdd);
    LinearBackwardWeight(dk, u, grads.k_proj.master.Matrix());
    LinearBackwardWeight(dv, u, grads.v_proj.master.Matrix());
  }
  const OpTimer timer("q_proj backward", 2 * LinearFlops(s.n, p.q_proj));
  LinearBackwardWeight(dq, s.uq, grads.q_proj.master.Matrix());
  if (s.rows == nullptr) {
    LinearBackwardInput(dq, p.q_proj, du, Accumulate::kAdd);
  } else {
    const MatrixView duq = scratch.Matrix(s.n, u.cols);
    LinearBackwardInput(dq, p.q_proj, duq);
    AddRows(duq, s.rows, du);
  }
}

}  // namespace taipan
