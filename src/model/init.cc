#include "model/init.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/fill.h"

namespace taipan {
namespace {

constexpr double kMinA = 1.0, kMaxA = 16.0;
constexpr double kMinDt = 1e-3, kMaxDt = 1e-1, kDtFloor = 1e-4;  // time steps

// x with softplus(x) = y: log(e^y - 1), in a form that is exact for small y.
double InverseSoftplus(double y) { return y + std::log(-std::expm1(-y)); }

double DtBias(double uniform) {
  const double dt = kMinDt * std::exp(uniform * std::log(kMaxDt / kMinDt));
  return InverseSoftplus(std::max(dt, kDtFloor));
}

void FillUniform(Tensor& t, const RandomKey& key, double bound) {
  FillByIndex(t, [&](uint64_t i) { return bound * (2 * RandomUniform(key, i) - 1); });
}

void FillNormal(Tensor& t, const RandomKey& key, double deviation) {
  FillByIndex(t, [&](uint64_t i) { return deviation * RandomNormal(key, i); });
}

}  // namespace

void InitialiseWeight(Weight& w, const RandomKey& key, double range, int residual_branches, double gate_bias) {
  Tensor& t = w.f32;
  switch (w.spec.init) {
    case Init::kNormal:
      return FillNormal(t, key, range);
    case Init::kNormalResidual:
      CHECK_GE(residual_branches, 1);
      return FillNormal(t, key, range / std::sqrt(residual_branches));
    case Init::kOnes:
      return FillByIndex(t, [](uint64_t) { return 1.0; });
    case Init::kZeros:
      return t.Zero();
    case Init::kConv:
      CHECK_GE(t.shape().size(), size_t{2});  // the width W is the last dimension, so a bias cannot be kConv
      return FillUniform(t, key, 1.0 / std::sqrt(static_cast<double>(t.shape().back())));
    case Init::kALog:
      return FillByIndex(t, [&](uint64_t i) { return std::log(kMinA + (kMaxA - kMinA) * RandomUniform(key, i)); });
    case Init::kDtBias:
      return FillByIndex(t, [&](uint64_t i) { return DtBias(RandomUniform(key, i)); });
    case Init::kGateBias:
      CHECK_EQ(t.size(), 2);
      return FillByIndex(t, [&](uint64_t i) { return i == 0 ? -gate_bias / 2 : gate_bias / 2; });
  }
  CheckFailed(__FILE__, __LINE__, "unknown Init of " + w.spec.name);
}

}  // namespace taipan
