#include "layers/mamba2.h"

#include "layers/pre_norm.h"

namespace taipan {
namespace {

struct Mamba2Params : BranchParams {
  explicit Mamba2Params(const Mamba2Dims& dims)
      : norm(PreNormSpec("norm.weight", "mamba2 norms", dims.d_model)), mixer(dims) {}
  Weight norm;  // [d]
  Mamba2Weights mixer;
  void ForEach(const WeightVisitor& visit) override {
    visit(norm);
    mixer.ForEach(visit);
  }
};

struct Mamba2BranchSaved : BranchSaved {
  PreNormSaved norm;
  Mamba2Saved mixer;
};

class Mamba2 : public Branch {
 public:
  explicit Mamba2(const Mamba2Dims& dims) : mixer_(dims) {}

  std::unique_ptr<BranchParams> Declare() const override { return std::make_unique<Mamba2Params>(mixer_.dims()); }
  std::vector<StateSpec> State() const override { return mixer_.State(); }
  void Cost(CostSink& sink) const override {
    sink.Norm(mixer_.dims().d_model);
    mixer_.Cost(sink);
  }
  TrainingBytes Bytes(double e, Keep keep) const override {
    const double d = static_cast<double>(mixer_.dims().d_model);
    TrainingBytes bytes = mixer_.Bytes(e, keep);
    bytes.kept += (4 + e) * d + 4;
    bytes.scratch += e * d;  // of the norm's gradient
    return bytes;
  }
  std::unique_ptr<BranchSaved> NewSaved() const override { return std::make_unique<Mamba2BranchSaved>(); }

  void Forward(const BranchParams& params, const ForwardCall& call, MatrixView h, BranchSaved* saved) const override {
    const auto& p = static_cast<const Mamba2Params&>(params);
    const Arena::Scope scope(*call.scratch);
    Mamba2BranchSaved local;
    auto& s = saved != nullptr ? static_cast<Mamba2BranchSaved&>(*saved) : local;
    PreNorm(p.norm, mixer_.dims().eps, call, h, s.norm);
    mixer_.Forward(p.mixer, call, s.norm.u, h, s.mixer);
  }

  void Advance(const BranchParams& params, const BranchSaved& saved, int64_t begin, int64_t count, LayerState& state,
               Arena& scratch) const override {
    mixer_.Advance(static_cast<const Mamba2Params&>(params).mixer, static_cast<const Mamba2BranchSaved&>(saved).mixer,
                   begin, count, state, scratch);
  }

  void Backward(const BranchParams& params, const BackwardCall& call, const BranchSaved& saved, MatrixView dh,
                BranchParams& grads) const override {
    const auto& p = static_cast<const Mamba2Params&>(params);
    const auto& s = static_cast<const Mamba2BranchSaved&>(saved);
    auto& g = static_cast<Mamba2Params&>(grads);
    const Arena::Scope scope(*call.scratch);
    const MatrixView du = call.scratch->Matrix(dh.rows, dh.cols, call.dtype);
    mixer_.Backward(p.mixer, call, s.mixer, {.dh = dh, .du = du}, g.mixer);
    PreNormBackward(p.norm, s.norm, du, dh, g.norm);
  }

 private:
  Mamba2Mixer mixer_;
};

}  // namespace

std::unique_ptr<Branch> MakeMamba2(const Mamba2Dims& dims) { return std::make_unique<Mamba2>(dims); }

}  // namespace taipan
