#include "layers/selective_attention.h"

#include <algorithm>

#include "base/op_timer.h"
#include "kernels/gate_noise.h"
#include "kernels/gated_mix.h"
#include "layers/multiplier.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct SelectiveAttentionParams : BranchParams {
  explicit SelectiveAttentionParams(const AttentionDims& dims)
      : norm(PreNormSpec("norm.weight", "attention norms", dims.d_model)),
        gate_weight({"gate.weight", "gate", {2, dims.d_model}, Role::kVector, Init::kNormal, /*decay=*/true}),
        gate_bias({.name = "gate.bias", .group = "gate", .shape = {2}, .init = Init::kGateBias}),
        attention(dims) {}
  Weight norm;                    // [d]
  Weight gate_weight, gate_bias;  // [2, d], [2]
  AttentionProjections attention;
  void ForEach(const WeightVisitor& visit) override {
    VisitWeights(visit, norm, gate_weight, gate_bias);
    attention.ForEach(visit);
  }
};

struct SelectiveAttentionSaved : BranchSaved {
  PreNormSaved norm;
  GateValues gate;  // [T] each
  float tau;
  int64_t* rows;  // [n] rows with attention computed; null: all
  int64_t n;
  MatrixView o;  // [n, d]
  AttentionSaved attention;
};

class SelectiveAttention : public Branch {
 public:
  SelectiveAttention(const AttentionDims& dims, Refinement refinement) : dims_(dims), refinement_(refinement) {}

  std::unique_ptr<BranchParams> Declare() const override { return std::make_unique<SelectiveAttentionParams>(dims_); }
  std::vector<StateSpec> State() const override { return AttentionState(dims_); }
  void Cost(CostSink& sink) const override {
    const double d = static_cast<double>(dims_.d_model);
    sink.Norm(dims_.d_model);
    sink.Mixer("gate", sink.tokens(), 2 * 2 * d, sink.element_bytes() * d, 0);
    AttentionCost(dims_, sink.work().selected_share, sink);
  }
  TrainingBytes Bytes(double e, Keep) const override {
    TrainingBytes bytes = AttentionBytes(dims_, e, /*picked=*/true);
    bytes.kept += (4 + e) * static_cast<double>(dims_.d_model) + 4 + 21;  // margin, alpha, m_soft, selected, row
    return bytes;
  }
  bool selective() const override { return true; }
  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<SelectiveAttentionSaved>(); }

  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override;
  void Advance(const BranchParams& params, const BranchSaved& saved, int64_t begin, int64_t count, LayerState& state,
               Arena& scratch) const override {
    AppendKeys(static_cast<const SelectiveAttentionSaved&>(saved).attention, begin, count, state);
  }
  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override;

 private:
  void Select(const SelectiveAttentionParams& p, const ForwardCall& call, SelectiveAttentionSaved& s) const;

  AttentionDims dims_;
  Refinement refinement_;
};

// Pairs [T, 2] that are added to the scores, by row and position in the row; null: none.
const float* NoiseOf(const GateControls& gate, const ForwardCall& call, int64_t t) {
  if (gate.rule == SelectionRule::kMargin) {
    if (gate.noise == GateNoise::kNone) return nullptr;
    if (gate.noise == GateNoise::kGiven) return gate.given;
  }
  float* noise = call.scratch->Floats(2 * t);
  for (const LayerSegment& seg : call.segments) {
    const uint64_t in_row = static_cast<uint64_t>(seg.row) << 32 | static_cast<uint64_t>(seg.row_begin);
    const uint64_t first = gate.by_position ? static_cast<uint64_t>(seg.position) : in_row;
    float* pairs = noise + 2 * seg.begin;
    if (gate.rule == SelectionRule::kRandom) {
      DecisivePairs(gate.key, first, seg.length, gate.share, pairs);
    } else if (gate.rule == SelectionRule::kPeriodic) {
      PeriodicPairs(static_cast<uint64_t>(seg.position), seg.length, gate.share, pairs);
    } else {
      GumbelPairs(gate.key, first, seg.length, pairs);
    }
  }
  return noise;
}

void FillReport(const ForwardCall& call, const GateValues& gate) {
  if (call.report == nullptr) return;
  auto& report = static_cast<GateReport&>(*call.report);
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
  const int64_t t = s.norm.u.rows;
  CHECK(call.controls != nullptr);
  const auto& controls = static_cast<const GateControls&>(*call.controls);
  Arena& results = *call.results;
  s.gate = {results.Floats(t), results.Floats(t), call.kept() ? results.Floats(t) : nullptr, results.Array<uint8_t>(t)};
  s.tau = controls.tau;
  TokenGate({.u = s.norm.u,
             .weight = p.gate_weight.F32(),
             .bias = p.gate_bias.F32(),
             .noise = NoiseOf(controls, call, t),
             .tau = s.tau,
             .delta = controls.delta},
            s.gate);
  FillReport(call, s.gate);
  s.rows = nullptr;
  s.n = t;
  if (controls.attend_all && call.kept()) return;
  s.rows = results.Array<int64_t>(t);
  s.n = 0;
  for (int64_t i = 0; i < t; ++i) {
    if (s.gate.selected[i]) s.rows[s.n++] = i;
  }
}

void SelectiveAttention::Forward(const BranchParams& params, const ForwardCall& call, MatrixView h,
                                 BranchSaved* saved) const {
  const auto& p = static_cast<const SelectiveAttentionParams&>(params);
  Arena::Scope scope(*call.scratch);
  SelectiveAttentionSaved local;
  auto& s = saved != nullptr ? static_cast<SelectiveAttentionSaved&>(*saved) : local;
  PreNorm(p.norm, dims_.eps, call, h, s.norm);
  Select(p, call, s);
  s.o = call.arena().Matrix(s.n, h.cols);
  AttendForward(dims_, p.attention, call, {.u = s.norm.u, .rows = s.rows, .n = s.n}, {s.o}, s.attention);
  const OpTimer timer("gate");
  GatedMix(refinement_, s.gate, s.rows, s.o, h);
}

void SelectiveAttention::Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved,
                                  MatrixView dh, BranchParams& grads) const {
  const auto& p = static_cast<const SelectiveAttentionParams&>(params);
  const auto& s = static_cast<const SelectiveAttentionSaved&>(saved);
  auto& g = static_cast<SelectiveAttentionParams&>(grads);
  Arena& scratch = *call.scratch;
  Arena::Scope scope(scratch);
  const int64_t t = dh.rows, d = dh.cols;
  float *dm = scratch.Floats(t), *dalpha = scratch.Floats(t);
  std::fill_n(dalpha, t, 0.0f);
  for (const LayerSegment& seg : call.segments) {  // the budget's share, every token
    std::fill_n(dm + seg.begin, seg.length,
                call.auxiliary.empty() ? 0.0f : call.auxiliary[static_cast<size_t>(seg.row)]);
  }
  const MatrixView d_o = scratch.Matrix(s.n, d);
  {
    const OpTimer timer("gate backward");
    GatedMixBackward(refinement_, {s.gate, s.rows, s.o, s.norm.h}, dh, d_o, dm, dalpha);
  }
  if (call.report != nullptr) static_cast<GateGradientReport&>(*call.report).dm.assign(dm, dm + t);
  const MatrixView du = scratch.Matrix(t, d);
  const ConstMatrixView scaled = ScaledGradient(d_o, dims_.out_multiplier, call.dtype, scratch);
  AttendBackward(dims_, p.attention, call, s.attention, {.d_o = scaled, .du = du}, g.attention);
  {
    const OpTimer timer("gate backward");
    TokenGateBackward(
        {.u = s.norm.u, .weight = p.gate_weight.F32(), .tau = s.tau}, s.gate,
        {.dm = dm, .dalpha = dalpha, .du = du, .dweight = g.gate_weight.F32(), .dbias = g.gate_bias.F32()});
  }
  PreNormBackward(p.norm, s.norm, du, dh, g.norm);
}

}  // namespace

std::unique_ptr<Branch> MakeSelectiveAttention(const AttentionDims& dims, Refinement refinement) {
  return std::make_unique<SelectiveAttention>(dims, refinement);
}

}  // namespace taipan
