#include "layers/mlp.h"

#include "base/op_timer.h"
#include "kernels/swiglu.h"
#include "layers/multiplier.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct MlpParams : BranchParams {
  Weight norm;                // [d]
  Weight gate_proj, up_proj;  // [ff, d]
  Weight down_proj;           // [d, ff]
  void ForEach(const WeightVisitor& visit) override { VisitWeights(visit, norm, gate_proj, up_proj, down_proj); }
};

struct MlpSaved : BranchSaved {
  PreNormSaved norm;
  MatrixView gate, up;  // [T, ff]
};

class SwigluMlp : public Branch {
 public:
  explicit SwigluMlp(const MlpDims& dims) : dims_(dims), d_(dims.d_model), ff_(dims.ff) {}

  std::unique_ptr<BranchParams> Declare() const override {
    const auto linear = [](const char* name, int64_t n, int64_t k, Init init) {
      return Weight({name, "mlp", {n, k}, Role::kLinear, init, /*decay=*/true});
    };
    auto p = std::make_unique<MlpParams>();
    p->norm = Weight(PreNormSpec("mlp_norm.weight", "mlp norms", d_));
    p->gate_proj = linear("mlp.gate_proj.weight", ff_, d_, Init::kNormal);
    p->up_proj = linear("mlp.up_proj.weight", ff_, d_, Init::kNormal);
    p->down_proj = linear("mlp.down_proj.weight", d_, ff_, Init::kNormalResidual);
    return p;
  }

  void Cost(CostSink& sink) const override {
    const double e = sink.element_bytes(), ff = static_cast<double>(ff_);
    sink.Norm(d_);
    sink.Product("gate_proj, up_proj", ff_, d_, e, 2);
    sink.Pointwise("swiglu", 2 * e * ff, e * ff);
    sink.Product("down_proj", d_, ff_, 2 * CostSink::kF32);  // added to the stream
  }

  TrainingBytes Bytes(double e, Keep) const override {
    const double d = static_cast<double>(d_), ff = static_cast<double>(ff_);
    return {e * d + 4 * d + 4 + e * 2 * ff, e * 3 * ff + 4 * d + e * d};
  }

  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<MlpSaved>(); }
  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override;
  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override;

 private:
  MlpDims dims_;
  int64_t d_, ff_;
};

void SwigluMlp::Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const {
  const auto& p = static_cast<const MlpParams&>(params);
  const Arena::Scope scope(*call.scratch);
  MlpSaved local;
  MlpSaved& s = call.kept() ? static_cast<MlpSaved&>(*saved) : local;
  PreNorm(p.norm, dims_.eps, call, h, s.norm);
  s.gate = call.arena().Matrix(h.rows, ff_, call.dtype);
  s.up = call.arena().Matrix(h.rows, ff_, call.dtype);
  {
    const OpTimer timer("gate_proj, up_proj");
    Linear(s.norm.u, p.gate_proj, s.gate);
    Linear(s.norm.u, p.up_proj, s.up);
    Multiply(s.gate, dims_.gate_multiplier);
  }
  const MatrixView act = call.scratch->Matrix(h.rows, ff_, call.dtype);
  {
    const OpTimer timer("swiglu");
    Swiglu(s.gate, s.up, act);
  }
  const OpTimer timer("down_proj");
  ScaledLinear(act, p.down_proj, dims_.out_multiplier, h, Accumulate::kAdd, *call.scratch);
}

void SwigluMlp::Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                         BranchParams& grads) const {
  const auto& p = static_cast<const MlpParams&>(params);
  const auto& s = static_cast<const MlpSaved&>(saved);
  auto& g = static_cast<MlpParams&>(grads);
  Arena& scratch = *call.scratch;
  const Arena::Scope scope(scratch);
  const int64_t t = dh.rows;
  const MatrixView act = scratch.Matrix(t, ff_, call.dtype), dact = scratch.Matrix(t, ff_, call.dtype),
                   dup = scratch.Matrix(t, ff_, call.dtype);
  {
    const OpTimer timer("swiglu backward");
    Swiglu(s.gate, s.up, act);
  }
  {
    const OpTimer timer("down_proj backward");
    const ConstMatrixView dout = ScaledGradient(dh, dims_.out_multiplier, call.dtype, scratch);
    LinearBackwardWeight(dout, act, g.down_proj.f32.Matrix());
    LinearBackwardInput(dout, p.down_proj, dact);
  }
  const MatrixView dgate = act;  // no longer needed
  {
    const OpTimer timer("swiglu backward");
    SwigluBackward(s.gate, s.up, dact, dgate, dup);
  }
  const MatrixView dn = scratch.Matrix(t, d_);
  {
    const OpTimer timer("gate_proj, up_proj backward");
    Multiply(dgate, dims_.gate_multiplier);
    LinearBackwardWeight(dgate, s.norm.u, g.gate_proj.f32.Matrix());
    LinearBackwardWeight(dup, s.norm.u, g.up_proj.f32.Matrix());
    LinearBackwardInput(dgate, p.gate_proj, dn);
    LinearBackwardInput(dup, p.up_proj, dn, Accumulate::kAdd);
  }
  PreNormBackward(p.norm, s.norm, dn, dh, g.norm);
}

}  // namespace

std::unique_ptr<Branch> MakeSwigluMlp(const MlpDims& dims) { return std::make_unique<SwigluMlp>(dims); }

}  // namespace taipan
