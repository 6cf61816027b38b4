#pragma once
// AdamW (Loshchilov and Hutter; the update of torch.optim.AdamW) and the norm for clipping. f32, sums in double.

#include <cstdint>

namespace taipan {

struct AdamWSettings {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;          // from 1, for the bias correction
  float gradient_scale = 1;  // clipping: gradients are multiplied by it first
};

// p <- p - lr*wd*p; m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; p <- p - lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
void AdamW(float* param, const float* gradient, float* m, float* v, int64_t n, const AdamWSettings& settings);

// Sum of squares in double, over fixed blocks in a fixed order. NaN and infinity come through.
double SquaredNorm(const float* x, int64_t n);

}  // namespace taipan
