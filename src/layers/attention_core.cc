#include "layers/attention_core.h"

#include <algorithm>
#include <cstring>

#include "kernels/rope.h"

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
  for (int64_t i = 0; i < to.rows; ++i) {
    std::memcpy(to.F32(i), from.F32(rows[i]), static_cast<size_t>(from.cols) * sizeof(float));
  }
}

void AddRows(ConstMatrixView from, const int64_t* rows, MatrixView to) {
  for (int64_t i = 0; i < from.rows; ++i) {
    float* y = to.F32(rows[i]);
    const float* x = from.F32(i);
    for (int64_t c = 0; c < from.cols; ++c) y[c] += x[c];
  }
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
    keys[count] = {s.k.F32(seg.begin), s.v.F32(seg.begin), s.k.stride, seg.position, seg.length};
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

BlockCost AttentionDims::Cost(int64_t context, double query_share) const {
  const double seen =
      shape.window > 0 ? static_cast<double>(std::min(shape.window, context)) : static_cast<double>(context) / 2;
  const double d = static_cast<double>(d_model), qw = static_cast<double>(q_width()),
               kvw = static_cast<double>(kv_width());
  const double mlp = 6.0 * d * static_cast<double>(ff);
  BlockCost cost;
  cost.flops_per_token = static_cast<int64_t>(4 * d * kvw + query_share * (4 * d * qw + 4 * qw * seen) + mlp);
  cost.saved_floats_per_token =
      static_cast<int64_t>(4 * d + 2 * kvw + query_share * (2 * d + 2 * qw) + 2.0 * static_cast<double>(ff));
  const int64_t kept = shape.window > 0 ? std::min(shape.window, context) : context;
  cost.state_bytes = 2 * kept * kv_width() * static_cast<int64_t>(sizeof(float));
  return cost;
}

AttentionProjections::AttentionProjections(const AttentionDims& dims) {
  q_proj.master = Tensor({dims.q_width(), dims.d_model});
  k_proj.master = Tensor({dims.kv_width(), dims.d_model});
  v_proj.master = Tensor({dims.kv_width(), dims.d_model});
  o_proj.master = Tensor({dims.d_model, dims.q_width()});
}

void AttentionProjections::ForEach(const ParamVisitor& visit) {
  visit({"attention.q_proj.weight", true, Init::kNormal, {}}, q_proj.master);
  visit({"attention.k_proj.weight", true, Init::kNormal, {}}, k_proj.master);
  visit({"attention.v_proj.weight", true, Init::kNormal, {}}, v_proj.master);
  visit({"attention.o_proj.weight", true, Init::kNormalResidual, {}}, o_proj.master);
}

void AttendForward(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call, ConstMatrixView u,
                   const int64_t* rows, int64_t n, MatrixView o, AttentionSaved& s) {
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  const int64_t t = u.rows;
  const int64_t* all_positions = RowPositions(call.segments, t, *call.scratch);
  s.rows = rows;
  s.n = n;
  s.k = arena.Matrix(t, dims.kv_width());
  s.v = arena.Matrix(t, dims.kv_width());
  Linear(u, p.k_proj, s.k);
  Linear(u, p.v_proj, s.v);
  s.positions = arena.Array<int64_t>(n);
  for (int64_t i = 0; i < n; ++i) s.positions[i] = all_positions[rows ? rows[i] : i];
  s.uq = arena.Matrix(n, u.cols);
  if (rows) GatherRows(u, rows, s.uq);
  if (!rows) CopyMatrix(u, s.uq);
  s.q = arena.Matrix(n, dims.q_width());
  Linear(s.uq, p.q_proj, s.q);
  if (!dims.rope.empty()) {
    Rope(s.k, dims.shape.head_dim, dims.rope, {all_positions, static_cast<size_t>(t)});
    Rope(s.q, dims.shape.head_dim, dims.rope, {s.positions, static_cast<size_t>(n)});
  }
  const KvCache** past = call.scratch->Array<const KvCache*>(static_cast<int64_t>(call.segments.size()));
  s.past.clear();
  for (size_t i = 0; i < call.segments.size(); ++i) {
    const LayerState* in = call.segments[i].state_in;
    past[i] = in ? &in->kv : nullptr;
    if (call.keep) s.past.push_back(in ? in->kv : KvCache());
  }
  s.context = arena.Matrix(n, dims.q_width());
  s.lse = call.keep ? arena.Floats(n * dims.shape.heads) : nullptr;
  const KeyLists keys = ListKeys(call.segments, s, past, nullptr, nullptr, *call.scratch);
  AttentionForward(dims.shape, s.q, s.positions, {keys.segments, keys.n}, s.context, s.lse, *call.scratch);
  Linear(s.context, p.o_proj, o);
  AppendToStates(call.segments, s);
}

namespace {

// Starts dk, dv [T, width] with the share of the outgoing states' gradients, and each wanted incoming gradient with
// what passes through untouched.
void SeedKeyGradients(const AttentionDims& dims, const BackwardCall& call, const AttentionSaved& s, MatrixView dk,
                      MatrixView dv) {
  dk.Zero();
  dv.Zero();
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

}  // namespace

void AttendBackward(const AttentionDims& dims, const AttentionProjections& p, const BackwardCall& call,
                    const AttentionSaved& s, ConstMatrixView u, ConstMatrixView d_o, MatrixView du,
                    AttentionProjections& grads) {
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = u.rows;
  MatrixView dcontext = scratch.Matrix(s.n, dims.q_width()), dq = scratch.Matrix(s.n, dims.q_width());
  LinearBackwardInput(d_o, p.o_proj, dcontext);
  LinearBackwardWeight(d_o, s.context, grads.o_proj.master.Matrix());
  MatrixView dkv[2] = {scratch.Matrix(t, dims.kv_width()), scratch.Matrix(t, dims.kv_width())};
  SeedKeyGradients(dims, call, s, dkv[0], dkv[1]);
  const KvCache** past = scratch.Array<const KvCache*>(static_cast<int64_t>(s.past.size()));
  for (size_t i = 0; i < s.past.size(); ++i) past[i] = s.past[i].count() > 0 ? &s.past[i] : nullptr;
  const KeyLists keys =
      ListKeys(call.segments, s, past, dkv, call.dstate_in.empty() ? nullptr : call.dstate_in.data(), scratch);
  AttentionBackward(dims.shape, s.q, s.positions, {keys.segments, keys.n}, s.context, s.lse, dcontext, dq, scratch);
  if (!dims.rope.empty()) {
    const int64_t* all_positions = RowPositions(call.segments, t, scratch);
    Rope(dkv[0], dims.shape.head_dim, dims.rope, {all_positions, static_cast<size_t>(t)}, -1);
    Rope(dq, dims.shape.head_dim, dims.rope, {s.positions, static_cast<size_t>(s.n)}, -1);
  }
  LinearBackwardInput(dkv[0], p.k_proj, du);
  LinearBackwardInput(dkv[1], p.v_proj, du, Accumulate::kAdd);
  LinearBackwardWeight(dkv[0], u, grads.k_proj.master.Matrix());
  LinearBackwardWeight(dkv[1], u, grads.v_proj.master.Matrix());
  LinearBackwardWeight(dq, s.uq, grads.q_proj.master.Matrix());
  if (s.rows == nullptr) {
    LinearBackwardInput(dq, p.q_proj, du, Accumulate::kAdd);
  } else {
    MatrixView duq = scratch.Matrix(s.n, u.cols);
    LinearBackwardInput(dq, p.q_proj, duq);
    AddRows(duq, s.rows, du);
  }
}

}  // namespace taipan
