#pragma once
// The feed-forward half of attention blocks: h += down(silu(gate n) * up n) with n = RMSNorm(h).

#include "kernels/gemm.h"
#include "layers/block.h"

namespace taipan {

struct MlpParams {
  Tensor norm;                      // [d]
  LinearWeight gate_proj, up_proj;  // [ff, d]
  LinearWeight down_proj;           // [d, ff]

  MlpParams(int64_t d_model, int64_t ff);
  void ForEach(const ParamVisitor& visit);
};

struct MlpSaved {
  MatrixView h;         // [T, d] on entry
  float* inv_rms;       // [T]
  MatrixView n;         // [T, d] normalised
  MatrixView gate, up;  // [T, ff]
};

// keep: into call.results; saved is always filled (inference: with scratch that dies with the caller's scope).
void MlpForward(const MlpParams& p, float eps, const ForwardCall& call, MatrixView h, MlpSaved& saved);
void MlpBackward(const MlpParams& p, DType dtype, Arena& scratch, const MlpSaved& saved, MatrixView dh,
                 MlpParams& grads);

}  // namespace taipan
