#include "layers/attention.h"

#include "layers/multiplier.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct AttentionParams : BranchParams {
  explicit AttentionParams(const AttentionDims& dims)
      : norm(PreNormSpec("norm.weight", "attention norms", dims.d_model)), attention(dims) {}
  Weight norm;  // [d]
  AttentionProjections attention;
  void ForEach(const WeightVisitor& visit) override {
    visit(norm);
    attention.ForEach(visit);
  }
};

struct AttentionBranchSaved : BranchSaved {
  PreNormSaved norm;
  AttentionSaved attention;
};

class Attention : public Branch {
 public:
  explicit Attention(const AttentionDims& dims) : dims_(dims) {}

  std::unique_ptr<BranchParams> Declare() const override { return std::make_unique<AttentionParams>(dims_); }
  std::vector<StateSpec> State() const override { return AttentionState(dims_); }
  void Cost(CostSink& sink) const override {
    sink.Norm(dims_.d_model);
    AttentionCost(dims_, 1, sink);
  }
  TrainingBytes Bytes(double e, Keep) const override {
    TrainingBytes bytes = AttentionBytes(dims_, e, /*picked=*/false);
    bytes.kept += (4 + e) * static_cast<double>(dims_.d_model) + 4;
    return bytes;
  }
  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<AttentionBranchSaved>(); }

  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override {
    const auto& p = static_cast<const AttentionParams&>(params);
    const Arena::Scope scope(*call.scratch);
    AttentionBranchSaved local;
    auto& s = saved != nullptr ? static_cast<AttentionBranchSaved&>(*saved) : local;
    PreNorm(p.norm, dims_.eps, call, h, s.norm);
    AttendForward(dims_, p.attention, call, {.u = s.norm.u, .n = h.rows}, {h, Accumulate::kAdd}, s.attention);
  }

  void Advance(const BranchParams& params, const BranchSaved& saved, int64_t begin, int64_t count, LayerState& state,
               Arena& scratch) const override {
    AppendKeys(static_cast<const AttentionBranchSaved&>(saved).attention, begin, count, state);
  }

  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override {
    const auto& p = static_cast<const AttentionParams&>(params);
    const auto& s = static_cast<const AttentionBranchSaved&>(saved);
    auto& g = static_cast<AttentionParams&>(grads);
    const Arena::Scope scope(*call.scratch);
    const MatrixView du = call.scratch->Matrix(dh.rows, dh.cols);
    const ConstMatrixView d_o = ScaledGradient(dh, dims_.out_multiplier, call.dtype, *call.scratch);
    AttendBackward(dims_, p.attention, call, s.attention, {.d_o = d_o, .du = du}, g.attention);
    PreNormBackward(p.norm, s.norm, du, dh, g.norm);
  }

 private:
  AttentionDims dims_;
};

}  // namespace

std::unique_ptr<Branch> MakeAttention(const AttentionDims& dims) { return std::make_unique<Attention>(dims); }

}  // namespace taipan
