#include "layers/mamba2_attention.h"

#include <algorithm>

#include "layers/multiplier.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct Mamba2AttentionParams : BranchParams {
  Mamba2AttentionParams(const Mamba2Dims& mamba2, const AttentionDims& dims)
      : norm(PreNormSpec("norm.weight", "mixer norms", dims.d_model)), mixer(mamba2), attention(dims) {}
  Weight norm;  // [d]
  Mamba2Weights mixer;
  AttentionProjections attention;
  void ForEach(const WeightVisitor& visit) override {
    visit(norm);
    mixer.ForEach(visit);
    attention.ForEach(visit);
  }
};

struct Mamba2AttentionSaved : BranchSaved {
  PreNormSaved norm;
  Mamba2Saved mixer;
  AttentionSaved attention;
};

class Mamba2Attention : public Branch {
 public:
  Mamba2Attention(const Mamba2Dims& mamba2, const AttentionDims& attention) : mixer_(mamba2), attention_(attention) {}

  std::unique_ptr<BranchParams> Declare() const override {
    return std::make_unique<Mamba2AttentionParams>(mixer_.dims(), attention_);
  }
  std::vector<StateSpec> State() const override {
    std::vector<StateSpec> state = mixer_.State();
    for (const StateSpec& spec : AttentionState(attention_)) state.push_back(spec);
    return state;
  }
  void Cost(CostSink& sink) const override {
    sink.Norm(attention_.d_model);
    mixer_.Cost(sink);
    AttentionCost(attention_, 1, sink);
  }
  TrainingBytes Bytes(double e, Keep keep) const override {
    const double d = static_cast<double>(attention_.d_model);
    const TrainingBytes a = mixer_.Bytes(e, keep), b = AttentionBytes(attention_, e, /*picked=*/false);
    return {a.kept + b.kept + (4 + e) * d + 4, std::max(a.scratch, b.scratch) + 4 * d};
  }
  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<Mamba2AttentionSaved>(); }

  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override {
    const auto& p = static_cast<const Mamba2AttentionParams&>(params);
    const Arena::Scope scope(*call.scratch);
    Mamba2AttentionSaved local;
    auto& s = saved != nullptr ? static_cast<Mamba2AttentionSaved&>(*saved) : local;
    PreNorm(p.norm, attention_.eps, call, h, s.norm);
    mixer_.Forward(p.mixer, call, s.norm.u, h, s.mixer);
    AttendForward(attention_, p.attention, call, {.u = s.norm.u, .n = h.rows}, {h, Accumulate::kAdd}, s.attention);
  }

  void Advance(const BranchParams& params, const BranchSaved& saved, int64_t begin, int64_t count, LayerState& state,
               Arena& scratch) const override {
    const auto& s = static_cast<const Mamba2AttentionSaved&>(saved);
    mixer_.Advance(static_cast<const Mamba2AttentionParams&>(params).mixer, s.mixer, begin, count, state, scratch);
    AppendKeys(s.attention, begin, count, state);
  }

  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override {
    const auto& p = static_cast<const Mamba2AttentionParams&>(params);
    const auto& s = static_cast<const Mamba2AttentionSaved&>(saved);
    auto& g = static_cast<Mamba2AttentionParams&>(grads);
    const Arena::Scope scope(*call.scratch);
    const MatrixView du = call.scratch->Matrix(dh.rows, dh.cols);
    {
      const Arena::Scope of_attention(*call.scratch);
      const ConstMatrixView d_o = ScaledGradient(dh, attention_.out_multiplier, call.dtype, *call.scratch);
      AttendBackward(attention_, p.attention, call, s.attention, {.d_o = d_o, .du = du}, g.attention);
    }
    mixer_.Backward(p.mixer, call, s.mixer, {.dh = dh, .du = du, .acc = Accumulate::kAdd}, g.mixer);
    PreNormBackward(p.norm, s.norm, du, dh, g.norm);
  }

 private:
  Mamba2Mixer mixer_;
  AttentionDims attention_;
};

}  // namespace

std::unique_ptr<Branch> MakeMamba2Attention(const Mamba2Dims& mamba2, const AttentionDims& attention) {
  return std::make_unique<Mamba2Attention>(mamba2, attention);
}

}  // namespace taipan
