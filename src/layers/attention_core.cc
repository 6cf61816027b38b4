#include "layers/attention_core.h"

#include <algorithm>
#include <cstring>

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/int8_rows.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "layers/multiplier.h"

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

struct KeyLists {
  AttentionSegment* segments;
  size_t n;
};

// Each segment's queries and keys: the pages of its past, then its own rows. dk, dv (null in forward) beside them; past
// gradients go to dpast_k / dpast_v[segment] where wanted.
KeyLists ListKeys(std::span<const LayerSegment> segments, const AttentionSaved& s, const KeyRows& own,
                  const KvCache* const* past, const MatrixView* dkv, LayerStateGradient* const* dpast, Arena& arena) {
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
    const auto [k, v, k_scales, v_scales, heads] = own.Rows(seg.begin, seg.length);
    keys[count] = {k.data, v.data, k.dtype, k.stride, seg.position, seg.length, k_scales, v_scales};
    if (dkv) gradients[count] = {dkv[0].F32(seg.begin), dkv[1].F32(seg.begin)};
    ++count;
    const int64_t begin = query, row_end = seg.begin + seg.length;
    if (s.in.rows == nullptr) {
      query = row_end;
    } else {
      while (query < s.in.n && s.in.rows[query] < row_end) ++query;
    }
    lists.segments[i] = {begin, query - begin, {keys, static_cast<size_t>(count)}, {}};
    if (dkv) lists.segments[i].key_gradients = {gradients, static_cast<size_t>(count)};
  }
  return lists;
}

// Keys and values as the states keep them: attention sees the same in the piece that computes them as later.
KeyRows RowsToKeep(const AttentionDims& dims, const ForwardCall& call, const AttentionSaved& s) {
  Arena& scratch = *call.scratch;
  const DType dtype = call.kv_dtype.value_or(s.k.dtype);
  if (dtype != DType::kI8) return {.k = InDType(s.k, dtype, scratch), .v = InDType(s.v, dtype, scratch)};
  CHECK(!call.kept());
  const int64_t t = s.k.rows, heads = dims.shape.kv_heads;
  const MatrixView k = scratch.Matrix(t, s.k.cols, dtype), v = scratch.Matrix(t, s.v.cols, dtype);
  float *const k_scales = scratch.Floats(t * heads), *const v_scales = scratch.Floats(t * heads);
  QuantizeHeads(s.k, heads, static_cast<int8_t*>(k.data), k_scales);
  QuantizeHeads(s.v, heads, static_cast<int8_t*>(v.data), v_scales);
  return {k, v, k_scales, v_scales, heads};
}

void AppendToStates(std::span<const LayerSegment> segments, const KeyRows& rows) {
  for (const LayerSegment& seg : segments) {
    if (seg.state_out == nullptr) continue;
    if (seg.state_in == nullptr) {
      seg.state_out->kv.RestartAt(seg.position);
    } else if (seg.state_in != seg.state_out) {
      seg.state_out->kv = seg.state_in->kv;
    }
    seg.state_out->kv.Append(rows.Rows(seg.begin, seg.length));
  }
}

}  // namespace

AttentionProjections::AttentionProjections(const AttentionDims& dims) {
  const auto linear = [](const char* name, const char* group, int64_t n, int64_t k, Init init) {
    return Weight({name, group, {n, k}, Role::kLinear, init, /*decay=*/true});
  };
  const int64_t d = dims.d_model, q = dims.q_width(), kv = dims.kv_width();
  q_proj = linear("attention.q_proj.weight", "attention q", q, d, Init::kNormal);
  k_proj = linear("attention.k_proj.weight", "attention k", kv, d, Init::kNormal);
  v_proj = linear("attention.v_proj.weight", "attention v", kv, d, Init::kNormal);
  o_proj = linear("attention.o_proj.weight", "attention o", d, q, Init::kNormalResidual);
}

std::vector<StateSpec> AttentionState(const AttentionDims& dims) {
  const Shape row = {dims.shape.kv_heads, dims.shape.head_dim};
  return {{"k", row, /*per_token=*/true, dims.shape.window}, {"v", row, /*per_token=*/true, dims.shape.window}};
}

void AttentionCost(const AttentionDims& dims, double share, CostSink& sink) {
  const double e = sink.element_bytes(), queries = share * sink.tokens();
  const double q = static_cast<double>(dims.q_width()), kv = static_cast<double>(dims.kv_width());
  const double keys = sink.MeanKeys(dims.shape.window);
  sink.Product("q_proj", dims.q_width(), dims.d_model, e, 1, share);
  sink.Product("k_proj, v_proj", dims.kv_width(), dims.d_model, e, 2);
  // Decoding reads the window's keys and values for each query; longer runs read each once.
  sink.Mixer("attention", queries, 4 * q * keys, e * q + (sink.decoding() ? 2 * e * kv * keys : 0), e * q);
  if (!sink.decoding()) sink.Pointwise("attention", 2 * e * kv, 0);
  sink.Product("o_proj", dims.d_model, dims.q_width(), 2 * CostSink::kF32, 1, share);
}

TrainingBytes AttentionBytes(const AttentionDims& dims, double e, bool picked) {
  const double d = static_cast<double>(dims.d_model), q = static_cast<double>(dims.q_width());
  const double kv = static_cast<double>(dims.kv_width()), heads = static_cast<double>(dims.shape.heads);
  const double gathered = picked ? e * d + 4 * d : 0;         // u, o
  return {e * 2 * kv + gathered + e * 2 * q + 8 + 4 * heads,  // k, v; q, context, positions, lse
          e * d + 4 * d + 8 * q + 4 * d + e * q + 8 * kv + e * 2 * kv};
}

namespace {

// Fills positions, uq, q, k and v.
void Project(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call, Arena& arena,
             AttentionSaved& s) {
  const ConstMatrixView u = s.in.u;
  const int64_t t = u.rows, n = s.in.n;
  const int64_t* all_positions = RowPositions(call.segments, t, *call.scratch);
  s.k = call.rows_arena().Matrix(t, dims.kv_width(), u.dtype);
  s.v = call.rows_arena().Matrix(t, dims.kv_width(), u.dtype);
  {
    const OpTimer timer("k_proj, v_proj");
    Linear(u, p.k_proj, s.k);
    Linear(u, p.v_proj, s.v);
  }
  s.q = arena.Matrix(n, dims.q_width(), u.dtype);
  {
    const OpTimer timer("q_proj");
    s.positions = arena.Array<int64_t>(n);
    for (int64_t i = 0; i < n; ++i) s.positions[i] = all_positions[s.in.rows ? s.in.rows[i] : i];
    s.uq = u;
    if (s.in.rows) {
      const MatrixView gathered = arena.Matrix(n, u.cols, u.dtype);
      GatherRows(u, s.in.rows, gathered);
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

void AttendForward(const AttentionDims& dims, const AttentionProjections& p, const ForwardCall& call,
                   const AttendInputs& in, AttendOutput out, AttentionSaved& s) {
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.arena();
  s.in = in;
  Project(dims, p, call, arena, s);
  const KvCache** past = call.scratch->Array<const KvCache*>(static_cast<int64_t>(call.segments.size()));
  s.past.clear();
  for (size_t i = 0; i < call.segments.size(); ++i) {
    const LayerState* state = call.segments[i].state_in;
    past[i] = state ? &state->kv : nullptr;
    if (call.kept()) s.past.push_back(state ? state->kv : KvCache());
  }
  s.context = arena.Matrix(in.n, dims.q_width(), in.u.dtype);
  s.lse = call.kept() ? arena.Floats(in.n * dims.shape.heads) : nullptr;
  const KeyRows own = RowsToKeep(dims, call, s);
  const KeyLists keys = ListKeys(call.segments, s, own, past, nullptr, nullptr, *call.scratch);
  const std::span<const AttentionSegment> segments(keys.segments, keys.n);
  {
    const OpTimer timer("attention");
    AttentionForward(dims.shape, {s.q, s.positions, segments}, s.context, s.lse, *call.scratch);
    AppendToStates(call.segments, own);
  }
  const OpTimer timer("o_proj");
  ScaledLinear(s.context, p.o_proj, dims.out_multiplier, out.o, out.acc, *call.scratch);
}

void AppendKeys(const AttentionSaved& s, int64_t begin, int64_t count, LayerState& state) {
  state.kv.Append(s.k.Rows(begin, count), s.v.Rows(begin, count));
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
void QueryAndKeyGradients(const AttentionDims& dims, const BackwardCall& call, const AttentionSaved& s,
                          ConstMatrixView dcontext, MatrixView dq, const MatrixView dkv[2]) {
  Arena& scratch = *call.scratch;
  const KvCache** past = scratch.Array<const KvCache*>(static_cast<int64_t>(s.past.size()));
  for (size_t i = 0; i < s.past.size(); ++i) past[i] = s.past[i].count() > 0 ? &s.past[i] : nullptr;
  {
    const OpTimer timer("attention backward");
    SeedKeyGradients(dims, call, s, dkv[0], dkv[1]);
  }
  const KeyLists keys = ListKeys(call.segments, s, {.k = s.k, .v = s.v}, past, dkv,
                                 call.dstate_in.empty() ? nullptr : call.dstate_in.data(), scratch);
  const std::span<const AttentionSegment> segments(keys.segments, keys.n);
  {
    const OpTimer timer("attention backward");
    AttentionBackward(dims.shape, {s.q, s.positions, segments}, s.context, s.lse, {.dout = dcontext, .dq = dq},
                      scratch);
  }
  if (dims.rope.empty()) return;
  const OpTimer timer("rope backward");
  const int64_t t = s.in.u.rows, n = s.in.n;
  const int64_t* all_positions = RowPositions(call.segments, t, scratch);
  Rope(dkv[0], dims.shape.head_dim, dims.rope, {all_positions, static_cast<size_t>(t)}, -1);
  Rope(dq, dims.shape.head_dim, dims.rope, {s.positions, static_cast<size_t>(n)}, -1);
}

}  // namespace

void AttendBackward(const AttentionDims& dims, const AttentionProjections& p, const BackwardCall& call,
                    const AttentionSaved& s, const AttendGradients& out, AttentionProjections& grads) {
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const ConstMatrixView u = s.in.u;
  const MatrixView du = out.du;
  const int64_t t = u.rows, n = s.in.n;
  const MatrixView dcontext = scratch.Matrix(n, dims.q_width(), u.dtype);
  const MatrixView dq = scratch.Matrix(n, dims.q_width(), u.dtype);
  const MatrixView dkv[2] = {scratch.Matrix(t, dims.kv_width()), scratch.Matrix(t, dims.kv_width())};
  {
    const OpTimer timer("o_proj backward");
    LinearBackwardInput(out.d_o, p.o_proj, dcontext);
    LinearBackwardWeight(out.d_o, s.context, grads.o_proj.f32.Matrix());
  }
  QueryAndKeyGradients(dims, call, s, dcontext, dq, dkv);
  {
    const OpTimer timer("k_proj, v_proj backward");
    const ConstMatrixView dk = InDType(dkv[0], u.dtype, scratch), dv = InDType(dkv[1], u.dtype, scratch);
    LinearBackwardInput(dk, p.k_proj, du);
    LinearBackwardInput(dv, p.v_proj, du, Accumulate::kAdd);
    LinearBackwardWeight(dk, u, grads.k_proj.f32.Matrix());
    LinearBackwardWeight(dv, u, grads.v_proj.f32.Matrix());
  }
  const OpTimer timer("q_proj backward");
  LinearBackwardWeight(dq, s.uq, grads.q_proj.f32.Matrix());
  if (s.in.rows == nullptr) {
    LinearBackwardInput(dq, p.q_proj, du, Accumulate::kAdd);
  } else {
    const MatrixView duq = scratch.Matrix(n, u.cols);
    LinearBackwardInput(dq, p.q_proj, duq);
    AddRows(duq, s.in.rows, du);
  }
}

}  // namespace taipan
