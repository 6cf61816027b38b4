#include "layers/relu2_mlp.h"

#include "base/op_timer.h"
#include "kernels/relu2.h"
#include "layers/multiplier.h"
#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct Relu2MlpParams : BranchParams {
  Weight norm;       // [d]
  Weight up_proj;    // [ff, d]
  Weight down_proj;  // [d, ff]
  void ForEach(const WeightVisitor& visit) override { VisitWeights(visit, norm, up_proj, down_proj); }
};

struct Relu2MlpSaved : BranchSaved {
  PreNormSaved norm;
  MatrixView up;  // [T, ff]
};

class Relu2Mlp : public Branch {
 public:
  explicit Relu2Mlp(const MlpDims& dims) : dims_(dims) {}

  std::unique_ptr<BranchParams> Declare() const override {
    const auto linear = [](const char* name, int64_t n, int64_t k, Init init) {
      return Weight({name, "mlp", {n, k}, Role::kLinear, init, /*decay=*/true});
    };
    auto p = std::make_unique<Relu2MlpParams>();
    p->norm = Weight(PreNormSpec("mlp_norm.weight", "mlp norms", dims_.d_model));
    p->up_proj = linear("mlp.up_proj.weight", dims_.ff, dims_.d_model, Init::kNormal);
    p->down_proj = linear("mlp.down_proj.weight", dims_.d_model, dims_.ff, Init::kNormalResidual);
    return p;
  }

  void Cost(CostSink& sink) const override {
    const double e = sink.element_bytes(), ff = static_cast<double>(dims_.ff);
    sink.Norm(dims_.d_model);
    sink.Product("up_proj", dims_.ff, dims_.d_model, e);
    sink.Pointwise("relu2", e * ff, e * ff);
    sink.Product("down_proj", dims_.d_model, dims_.ff, 2 * CostSink::kF32);  // added to the stream
  }

  TrainingBytes Bytes(double e, Keep) const override {
    const double d = static_cast<double>(dims_.d_model), ff = static_cast<double>(dims_.ff);
    return {e * d + 4 * d + 4 + e * ff, e * 2 * ff + 4 * d + e * d};
  }

  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<Relu2MlpSaved>(); }
  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override;
  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override;

 private:
  MlpDims dims_;
};

void Relu2Mlp::Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const {
  const auto& p = static_cast<const Relu2MlpParams&>(params);
  const Arena::Scope scope(*call.scratch);
  Relu2MlpSaved local;
  auto& s = call.kept() ? static_cast<Relu2MlpSaved&>(*saved) : local;
  PreNorm(p.norm, dims_.eps, call, h, s.norm);
  s.up = call.arena().Matrix(h.rows, dims_.ff, call.dtype);
  {
    const OpTimer timer("up_proj");
    Linear(s.norm.u, p.up_proj, s.up);
  }
  const MatrixView act = call.scratch->Matrix(h.rows, dims_.ff, call.dtype);
  {
    const OpTimer timer("relu2");
    Relu2(s.up, act);
  }
  const OpTimer timer("down_proj");
  ScaledLinear(act, p.down_proj, dims_.out_multiplier, h, Accumulate::kAdd, *call.scratch);
}

void Relu2Mlp::Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                        BranchParams& grads) const {
  const auto& p = static_cast<const Relu2MlpParams&>(params);
  const auto& s = static_cast<const Relu2MlpSaved&>(saved);
  auto& g = static_cast<Relu2MlpParams&>(grads);
  Arena& scratch = *call.scratch;
  const Arena::Scope scope(scratch);
  const MatrixView act = scratch.Matrix(dh.rows, dims_.ff, call.dtype);
  const MatrixView dup = scratch.Matrix(dh.rows, dims_.ff, call.dtype);
  {
    const OpTimer timer("relu2 backward");
    Relu2(s.up, act);
  }
  {
    const OpTimer timer("down_proj backward");
    const ConstMatrixView dout = ScaledGradient(dh, dims_.out_multiplier, call.dtype, scratch);
    LinearBackwardWeight(dout, act, g.down_proj.f32.Matrix());
    LinearBackwardInput(dout, p.down_proj, dup);
  }
  {
    const OpTimer timer("relu2 backward");
    Relu2Backward(s.up, dup, dup);
  }
  const MatrixView dn = scratch.Matrix(dh.rows, dims_.d_model);
  {
    const OpTimer timer("up_proj backward");
    LinearBackwardWeight(dup, s.norm.u, g.up_proj.f32.Matrix());
    LinearBackwardInput(dup, p.up_proj, dn);
  }
  PreNormBackward(p.norm, s.norm, dn, dh, g.norm);
}

}  // namespace

std::unique_ptr<Branch> MakeRelu2Mlp(const MlpDims& dims) { return std::make_unique<Relu2Mlp>(dims); }

}  // namespace taipan
