#include "layers/attention_block.h"

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"

namespace taipan {
namespace {

struct AttentionBlockSaved : BlockSaved {
  MatrixView h;    // [T, d] on entry
  float* inv_rms;  // [T]
  MatrixView u;    // [T, d] normalised
  AttentionSaved attention;
  MlpSaved mlp;
};

class AttentionBlock : public Block {
 public:
  explicit AttentionBlock(const AttentionDims& dims) : dims_(dims) {}

  std::unique_ptr<BlockParams> NewParams() const override { return std::make_unique<AttentionBlockParams>(dims_); }
  std::unique_ptr<BlockSaved> NewSaved() const override { return std::make_unique<AttentionBlockSaved>(); }
  LayerState NewState() const override {
    LayerState s;
    s.kv = KvCache(dims_.kv_width(), dims_.shape.window);
    return s;
  }
  int residual_branches() const override { return 2; }

  void Forward(const BlockParams& params, const ForwardCall& call, MatrixView h, BlockSaved* saved) const override {
    const auto& p = static_cast<const AttentionBlockParams&>(params);
    Arena::Scope scope(*call.scratch);
    Arena& arena = call.keep ? *call.results : *call.scratch;
    AttentionBlockSaved local;
    auto& s = call.keep ? static_cast<AttentionBlockSaved&>(*saved) : local;
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
    AttendForward(dims_, p.attention, call, s.u, nullptr, h.rows, h, Accumulate::kAdd, s.attention);
    MlpForward(p.mlp, dims_.eps, call, h, s.mlp);
  }

  void Backward(const BlockParams& params, const BackwardCall& call, const BlockSaved& saved, MatrixView dh,
                BlockParams& grads) const override {
    const auto& p = static_cast<const AttentionBlockParams&>(params);
    const auto& s = static_cast<const AttentionBlockSaved&>(saved);
    auto& g = static_cast<AttentionBlockParams&>(grads);
    Arena::Scope scope(*call.scratch);
    MlpBackward(p.mlp, call.dtype, *call.scratch, s.mlp, dh, g.mlp);
    MatrixView du = call.scratch->Matrix(dh.rows, dh.cols);
    AttendBackward(dims_, p.attention, call, s.attention, s.u, InDType(dh, call.dtype, *call.scratch), du, g.attention);
    const OpTimer timer("norm backward");
    RmsNormBackward(s.h, p.norm.F32(), s.inv_rms, du, dh, Accumulate::kAdd, g.norm.F32());
  }

 private:
  AttentionDims dims_;
};

}  // namespace

void AttentionBlockParams::ForEach(const ParamVisitor& visit) {
  visit({"norm.weight", false, Init::kOnes, {}}, norm);
  attention.ForEach(visit);
  mlp.ForEach(visit);
}

std::unique_ptr<Block> MakeAttentionBlock(const AttentionDims& dims) { return std::make_unique<AttentionBlock>(dims); }

}  // namespace taipan
