#include "layers/swiglu_mlp.h"

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"
#include "kernels/swiglu.h"

namespace taipan {

MlpParams::MlpParams(int64_t d_model, int64_t ff) : norm({d_model}) {
  gate_proj.master = Tensor({ff, d_model});
  up_proj.master = Tensor({ff, d_model});
  down_proj.master = Tensor({d_model, ff});
}

void MlpParams::ForEach(const ParamVisitor& visit) {
  visit({"mlp_norm.weight", false, Init::kOnes, {}}, norm);
  visit({"mlp.gate_proj.weight", true, Init::kNormal, {}, &gate_proj.bf16}, gate_proj.master);
  visit({"mlp.up_proj.weight", true, Init::kNormal, {}, &up_proj.bf16}, up_proj.master);
  visit({"mlp.down_proj.weight", true, Init::kNormalResidual, {}, &down_proj.bf16}, down_proj.master);
}

void MlpForward(const MlpParams& p, float eps, const ForwardCall& call, MatrixView h, MlpSaved& saved) {
  Arena::Scope scope(*call.scratch);
  Arena& arena = call.keep ? *call.results : *call.scratch;
  const int64_t t = h.rows, ff = p.gate_proj.outputs();
  saved.n = arena.Matrix(t, h.cols, call.dtype);
  saved.inv_rms = arena.Floats(t);
  {
    const OpTimer timer("norm");
    if (call.keep) {
      saved.h = arena.Matrix(t, h.cols);
      Convert(h, saved.h);
    }
    RmsNorm(h, p.norm.F32(), eps, saved.n, saved.inv_rms);
  }
  saved.gate = arena.Matrix(t, ff, call.dtype);
  saved.up = arena.Matrix(t, ff, call.dtype);
  {
    const OpTimer timer("gate_proj, up_proj", 2 * LinearFlops(t, p.gate_proj));
    Linear(saved.n, p.gate_proj, saved.gate);
    Linear(saved.n, p.up_proj, saved.up);
  }
  MatrixView act = call.scratch->Matrix(t, ff, call.dtype);
  {
    const OpTimer timer("swiglu");
    Swiglu(saved.gate, saved.up, act);
  }
  const OpTimer timer("down_proj", LinearFlops(t, p.down_proj));
  Linear(act, p.down_proj, h, Accumulate::kAdd);
}

void MlpBackward(const MlpParams& p, DType dtype, Arena& scratch, const MlpSaved& saved, MatrixView dh,
                 MlpParams& grads) {
  Arena::Scope scope(scratch);
  const int64_t t = dh.rows, ff = p.gate_proj.outputs();
  MatrixView act = scratch.Matrix(t, ff, dtype), dact = scratch.Matrix(t, ff, dtype),
             dup = scratch.Matrix(t, ff, dtype);
  {
    const OpTimer timer("swiglu backward");
    Swiglu(saved.gate, saved.up, act);
  }
  {
    const OpTimer timer("down_proj backward", 2 * LinearFlops(t, p.down_proj));
    const ConstMatrixView dout = InDType(dh, dtype, scratch);
    LinearBackwardWeight(dout, act, grads.down_proj.master.Matrix());
    LinearBackwardInput(dout, p.down_proj, dact);
  }
  MatrixView dgate = act;  // no longer needed
  {
    const OpTimer timer("swiglu backward");
    SwigluBackward(saved.gate, saved.up, dact, dgate, dup);
  }
  MatrixView dn = scratch.Matrix(t, dh.cols);
  {
    const OpTimer timer("gate_proj, up_proj backward", 4 * LinearFlops(t, p.gate_proj));
    LinearBackwardWeight(dgate, saved.n, grads.gate_proj.master.Matrix());
    LinearBackwardWeight(dup, saved.n, grads.up_proj.master.Matrix());
    LinearBackwardInput(dgate, p.gate_proj, dn);
    LinearBackwardInput(dup, p.up_proj, dn, Accumulate::kAdd);
  }
  const OpTimer timer("norm backward");
  RmsNormBackward(saved.h, p.norm.F32(), saved.inv_rms, dn, dh, Accumulate::kAdd, grads.norm.F32());
}

}  // namespace taipan
