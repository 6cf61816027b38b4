#include "layers/mamba2_mlp_block.h"

namespace taipan {
namespace {

struct Mamba2MlpParams : BlockParams {
  Mamba2MlpParams(std::unique_ptr<BlockParams> m, int64_t d_model, int64_t ff)
      : mixer(std::move(m)), mlp(d_model, ff) {}
  std::unique_ptr<BlockParams> mixer;
  MlpParams mlp;
  void ForEach(const ParamVisitor& visit) override {
    mixer->ForEach(visit);
    mlp.ForEach(visit);
  }
};

struct Mamba2MlpSaved : BlockSaved {
  std::unique_ptr<BlockSaved> mixer;
  MlpSaved mlp;
};

class Mamba2MlpBlock : public Block {
 public:
  Mamba2MlpBlock(const Mamba2Dims& dims, int64_t ff) : dims_(dims), ff_(ff), mixer_(MakeMamba2Block(dims)) {}

  std::unique_ptr<BlockParams> NewParams() const override {
    return std::make_unique<Mamba2MlpParams>(mixer_->NewParams(), dims_.d_model, ff_);
  }
  std::unique_ptr<BlockSaved> NewSaved() const override {
    auto saved = std::make_unique<Mamba2MlpSaved>();
    saved->mixer = mixer_->NewSaved();
    return saved;
  }
  LayerState NewState() const override { return mixer_->NewState(); }
  int residual_branches() const override { return 2; }

  void Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const override {
    const auto& p = static_cast<const Mamba2MlpParams&>(params);
    Mamba2MlpSaved local;
    Mamba2MlpSaved& s = call.keep ? static_cast<Mamba2MlpSaved&>(*saved) : local;
    mixer_->Forward(*p.mixer, call, h, s.mixer.get());
    const Arena::Scope scope(*call.scratch);
    MlpForward(p.mlp, dims_.eps, call, h, s.mlp);
  }

  void Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                BlockParams& grads) const override {
    const auto& p = static_cast<const Mamba2MlpParams&>(params);
    const auto& s = static_cast<const Mamba2MlpSaved&>(saved);
    auto& g = static_cast<Mamba2MlpParams&>(grads);
    MlpBackward(p.mlp, call.dtype, *call.scratch, s.mlp, dh, g.mlp);
    mixer_->Backward(*p.mixer, call, *s.mixer, dh, *g.mixer);
  }

 private:
  Mamba2Dims dims_;
  int64_t ff_;
  std::unique_ptr<Block> mixer_;
};

}  // namespace

std::unique_ptr<Block> MakeMamba2MlpBlock(const Mamba2Dims& dims, int64_t ff) {
  return std::make_unique<Mamba2MlpBlock>(dims, ff);
}

}  // namespace taipan
