#include "model/init.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace taipan {
namespace {

constexpr double kMinA = 1.0, kMaxA = 16.0;
constexpr double kMinDt = 1e-3, kMaxDt = 1e-1, kDtFloor = 1e-4;  // time steps

template <class F>
void Fill(Tensor& t, F&& value) {
  float* data = t.F32();
  constexpr int64_t kGrain = 1 << 14;  // elements of a task: about a millisecond of Box-Muller
  ParallelForRanges(t.size(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) data[i] = static_cast<float>(value(static_cast<uint64_t>(i)));
  });
}

// x with softplus(x) = y: log(e^y - 1), in a form that is exact for small y.
double InverseSoftplus(double y) { return y + std::log(-std::expm1(-y)); }

double DtBias(double uniform) {
  const double dt = kMinDt * std::exp(uniform * std::log(kMaxDt / kMinDt));
  return InverseSoftplus(std::max(dt, kDtFloor));
}

void FillUniform(Tensor& t, const RandomKey& key, double bound) {
  Fill(t, [&](uint64_t i) { return bound * (2 * RandomUniform(key, i) - 1); });
}

void FillNormal(Tensor& t, const RandomKey& key, double deviation) {
  Fill(t, [&](uint64_t i) { return deviation * RandomNormal(key, i); });
}

}  // namespace

void InitialiseParameter(const ParamInfo& info, Tensor& t, const RandomKey& key, double range, int residual_branches,
                         double gate_bias) {
  switch (info.init) {
    case Init::kNormal:
      return FillNormal(t, key, range);
    case Init::kNormalResidual:
      CHECK_GE(residual_branches, 1);
      return FillNormal(t, key, range / std::sqrt(residual_branches));
    case Init::kOnes:
      return Fill(t, [](uint64_t) { return 1.0; });
    case Init::kZeros:
      return t.Zero();
    case Init::kConv:
      CHECK_GE(t.shape().size(), size_t{2});  // the width W is the last dimension, so a bias cannot be kConv
      return FillUniform(t, key, 1.0 / std::sqrt(static_cast<double>(t.shape().back())));
    case Init::kALog:
      return Fill(t, [&](uint64_t i) { return std::log(kMinA + (kMaxA - kMinA) * RandomUniform(key, i)); });
    case Init::kDtBias:
      return Fill(t, [&](uint64_t i) { return DtBias(RandomUniform(key, i)); });
    case Init::kGateBias:
      CHECK_EQ(t.size(), 2);
      return Fill(t, [&](uint64_t i) { return i == 0 ? -gate_bias / 2 : gate_bias / 2; });
  }
  CheckFailed(__FILE__, __LINE__, "unknown Init of " + info.name);
}

}  // namespace taipan
