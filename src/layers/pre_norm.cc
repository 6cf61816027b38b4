#include "layers/pre_norm.h"

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/rms_norm.h"

namespace taipan {

WeightSpec PreNormSpec(const char* name, const char* group, int64_t d_model) {
  return {.name = name, .group = group, .shape = {d_model}, .init = Init::kOnes};
}

void PreNorm(const Weight& norm, float eps, const ForwardCall& call, ConstMatrixView h, PreNormSaved& saved) {
  const OpTimer timer("norm");
  saved.u = call.arena().Matrix(h.rows, h.cols, call.dtype);
  saved.inv_rms = call.arena().Floats(h.rows);
  RmsNorm(h, norm.F32(), eps, saved.u, saved.inv_rms);
  if (!call.kept()) return;
  saved.h = call.results->Matrix(h.rows, h.cols);
  Convert(h, saved.h);
}

void PreNormBackward(const Weight& norm, const PreNormSaved& saved, ConstMatrixView du, MatrixView dh, Weight& grad) {
  const OpTimer timer("norm backward");
  RmsNormBackward(saved.h, norm.F32(), saved.inv_rms,
                  {.dy = du, .dx = dh, .acc = Accumulate::kAdd, .dweight = grad.F32()});
}

}  // namespace taipan
