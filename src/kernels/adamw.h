#pragma once
// AdamW (Loshchilov and Hutter; the update of torch.optim.AdamW) and the norm for clipping. f32, sums in double;
// moments may be kept in bf16.

#include <cstdint>

#include "kernels/rounding.h"
#include "tensor/bf16.h"

namespace taipan {

struct AdamWSettings {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;          // from 1, for the bias correction
  float gradient_scale = 1;  // clipping: gradients are multiplied by it first
};

template <class Moment>   // float or BF16
struct AdamWElementsOf {  // [n] each
  float* param;
  const float* gradient;
  Moment *m, *v;
  int64_t n;
};
using AdamWElements = AdamWElementsOf<float>;

// What the same pass over memory does besides.
struct AdamWAlso {
  BF16* bf16 = nullptr;    // gets the new parameters, rounded: the copy that bf16 products read
  float* clear = nullptr;  // the gradient itself: left zero, for the next step's sums
};

// p <- p - lr*wd*p; m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; p <- p - lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
void AdamW(const AdamWElements& elements, const AdamWSettings& settings, const AdamWAlso& also = {});
// The same with moments that are rounded to bf16 once the parameters are updated.
void AdamW(const AdamWElementsOf<BF16>& elements, const AdamWSettings& settings, const Rounding& rounding,
           const AdamWAlso& also = {});

// Sum of squares in double, over fixed blocks in a fixed order. NaN and infinity come through.
double SquaredNorm(const float* x, int64_t n);

}  // namespace taipan
