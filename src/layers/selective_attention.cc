#include "layers/selective_attention.h"

#include <algorithm>

#include "base/op_timer.h"
#include "base/parallel.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"
#include "kernels/token_gate.h"

namespace taipan {
namespace {

struct SelectiveAttentionSaved : BlockSaved {
  MatrixView h;     // [T, d] on entry
  float* inv_rms;   // [T]
  MatrixView u;     // [T, d] normalised
  GateValues gate;  // [T] each
  int64_t* rows;    // [n] rows with attention computed; null: all
  int64_t n;
  MatrixView o;  // [n, d]
  AttentionSaved attention;
  MlpSaved mlp;
};

class SelectiveAttention : public Block {
 public:
  SelectiveAttention(const AttentionDims& dims, double budget) : dims_(dims), budget_(budget) {}

  std::unique_ptr<BlockParams> NewParams() const override { return std::make_unique<SelectiveAttentionParams>(dims_); }
  std::unique_ptr<BlockSaved> NewSaved() const override { return std::make_unique<SelectiveAttentionSaved>(); }
  LayerState NewState() const override {
    LayerState s;
    s.kv = KvCache(dims_.kv_width(), dims_.shape.window);
    return s;
  }
  bool selective() const override { return true; }
  int residual_branches() const override { return 2; }

  void Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const override;
  void Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                BlockParams& grads) const override;

 private:
  void Select(const SelectiveAttentionParams& p, const ForwardCall& call, SelectiveAttentionSaved& s) const;
  void Mix(const SelectiveAttentionSaved& s, MatrixView h) const;
  void MixBackward(const SelectiveAttentionSaved& s, MatrixView dh, MatrixView d_o, float* dm, float* dalpha) const;

  AttentionDims dims_;
  double budget_;
};

constexpr float kDecisive = 1e6f;  // more than any margin of a sane gate

// Gumbel pairs [T, 2] of this SAL by row and position in the row.
const float* NoiseOf(const ForwardCall& call, int64_t t) {
  const GateOptions& gate = *call.gate;
  if (gate.noise == GateNoise::kNone) return nullptr;
  if (gate.noise == GateNoise::kGiven) return gate.given[static_cast<size_t>(call.sal_index)];
  float* noise = call.scratch->Floats(2 * t);
  const RandomKey key{gate.seed, kGumbelStream + static_cast<uint32_t>(call.sal_index), gate.step};
  for (const LayerSegment& seg : call.segments) {
    ParallelForRanges(seg.length, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const uint64_t index = static_cast<uint64_t>(seg.row) << 32 | static_cast<uint64_t>(seg.row_begin + i);
        float* pair = noise + 2 * (seg.begin + i);
        if (gate.noise == GateNoise::kForced) {
          pair[0] = 0;
          pair[1] = RandomUniform(key, index) < gate.forced_share ? kDecisive : -kDecisive;
        } else {
          const auto gumbel = RandomGumbelPair(key, index);
          pair[0] = gumbel[0];
          pair[1] = gumbel[1];
        }
      }
    });
  }
  return noise;
}

void FillReport(const ForwardCall& call, const GateValues& gate) {
  if (call.report == nullptr) return;
  GateReport& report = *call.report;
  report.selected = gate.selected;
  report.margin = gate.margin;
  report.alpha = gate.alpha;
  report.row_sums.clear();
  for (const LayerSegment& seg : call.segments) {
    const size_t row = static_cast<size_t>(seg.row);
    if (row >= report.row_sums.size()) report.row_sums.resize(row + 1, 0.0);
    for (int64_t i = 0; i < seg.length; ++i) report.row_sums[row] += gate.selected[seg.begin + i];
  }
}

void SelectiveAttention::Select(const SelectiveAttentionParams& p, const ForwardCall& call,
                                SelectiveAttentionSaved& s) const {
  const OpTimer timer("gate");
  const int64_t t = s.u.rows;
  const GateOptions& options = *call.gate;
  Arena& results = *call.results;
  s.gate = {results.Floats(t), results.Floats(t), call.keep ? results.Floats(t) : nullptr, results.Array<uint8_t>(t)};
  const size_t index = static_cast<size_t>(call.sal_index);
  const float delta = options.delta.empty() ? 0.0f : options.delta[index];
  TokenGate(s.u, p.gate_weight.F32(), p.gate_bias.F32(), NoiseOf(call, t), options.tau, delta, s.gate);
  FillReport(call, s.gate);
  s.rows = nullptr;
  s.n = t;
  if (options.attend_all && call.keep) return;
  s.rows = results.Array<int64_t>(t);
  s.n = 0;
  for (int64_t i = 0; i < t; ++i) {
    if (s.gate.selected[i]) s.rows[s.n++] = i;
  }
}

void SelectiveAttention::Forward(const BlockParams& params, const ForwardCall& call, MatrixView h,
                                 BlockSaved* saved) const {
  const auto& p = static_cast<const SelectiveAttentionParams&>(params);
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  SelectiveAttentionSaved local;
  auto& s = call.keep ? static_cast<SelectiveAttentionSaved&>(*saved) : local;
  s.u = arena.Matrix(h.rows, h.cols, call.dtype);
  s.inv_rms = arena.Floats(h.rows);
  {
    const OpTimer timer("norm");
    RmsNorm(h, p.norm.F32(), dims_.eps, s.u, s.inv_rms);
    if (call.keep) {
      s.h = arena.Matrix(h.rows, h.cols);
      Convert(h, s.h);
    }
  }
  Select(p, call, s);
  s.o = arena.Matrix(s.n, h.cols);
  AttendForward(dims_, p.attention, call, s.u, s.rows, s.n, s.o, Accumulate::kWrite, s.attention);
  Mix(s, h);
  MlpForward(p.mlp, dims_.eps, call, h, s.mlp);
}

// h <- (1 - alpha) h + alpha o where selected.
void SelectiveAttention::Mix(const SelectiveAttentionSaved& s, MatrixView h) const {
  const OpTimer timer("gate");
  ParallelForRanges(s.n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = s.rows ? s.rows[i] : i;
      if (!s.gate.selected[row]) continue;
      const float alpha = s.gate.alpha[row];
      float* to = h.F32(row);
      const float* o = s.o.F32(i);
      for (int64_t c = 0; c < h.cols; ++c) to[c] = (1.0f - alpha) * to[c] + alpha * o[c];
    }
  });
}

void SelectiveAttention::Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved,
                                  MatrixView dh, BlockParams& grads) const {
  const auto& p = static_cast<const SelectiveAttentionParams&>(params);
  const auto& s = static_cast<const SelectiveAttentionSaved&>(saved);
  auto& g = static_cast<SelectiveAttentionParams&>(grads);
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = dh.rows, d = dh.cols;
  MlpBackward(p.mlp, call.dtype, scratch, s.mlp, dh, g.mlp);
  float *dm = scratch.Floats(t), *dalpha = scratch.Floats(t);
  for (const LayerSegment& seg : call.segments) {
    for (int64_t i = seg.begin; i < seg.begin + seg.length; ++i) {
      dm[i] =
          call.dm_row.empty() ? 0.0f : call.dm_row[static_cast<size_t>(seg.row)];  // the budget's share, every token
      dalpha[i] = 0;
    }
  }
  MatrixView d_o = scratch.Matrix(s.n, d);
  MixBackward(s, dh, d_o, dm, dalpha);
  MatrixView du = scratch.Matrix(t, d);
  AttendBackward(dims_, p.attention, call, s.attention, s.u, InDType(d_o, call.dtype, scratch), du, g.attention);
  {
    const OpTimer timer("gate backward");
    TokenGateBackward(s.u, p.gate_weight.F32(), s.gate, call.gate->tau, dm, dalpha, du, g.gate_weight.F32(),
                      g.gate_bias.F32());
  }
  const OpTimer timer("norm backward");
  RmsNormBackward(s.h, p.norm.F32(), s.inv_rms, du, dh, Accumulate::kAdd, g.norm.F32());
}

// From dL/d h after the mix: d_o, dL/d m and dL/d alpha of each row, and dh before it.
void SelectiveAttention::MixBackward(const SelectiveAttentionSaved& s, MatrixView dh, MatrixView d_o, float* dm,
                                     float* dalpha) const {
  const OpTimer timer("gate backward");
  const int64_t d = dh.cols;
  ParallelForRanges(s.n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = s.rows ? s.rows[i] : i;
      const float alpha = s.gate.alpha[row];
      const bool selected = s.gate.selected[row] != 0;
      float *dr = dh.F32(row), *to = d_o.F32(i);
      const float *o = s.o.F32(i), *h = s.h.F32(row);
      double dot = 0;  // <dr, o - h>
      for (int64_t c = 0; c < d; ++c) dot += static_cast<double>(dr[c]) * (o[c] - h[c]);
      dm[row] += static_cast<float>(alpha * dot);
      if (selected) dalpha[row] = static_cast<float>(dot);
      for (int64_t c = 0; c < d; ++c) {
        to[c] = selected ? alpha * dr[c] : 0.0f;
        if (selected) dr[c] *= 1.0f - alpha;
      }
    }
  });
}

}  // namespace

void SelectiveAttentionParams::ForEach(const ParamVisitor& visit) {
  visit({"norm.weight", false, Init::kOnes, {}}, norm);
  visit({"gate.weight", true, Init::kNormal, {}}, gate_weight);
  visit({"gate.bias", false, Init::kGateBias, {}}, gate_bias);
  attention.ForEach(visit);
  mlp.ForEach(visit);
}

std::unique_ptr<Block> MakeSelectiveAttention(const AttentionDims& dims, double budget) {
  return std::make_unique<SelectiveAttention>(dims, budget);
}

}  // namespace taipan
