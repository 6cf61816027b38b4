#include "kernels/token_gate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "kernels/element_type.h"
#include "kernels/gemm/tile_partials.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/token_gate.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace taipan {
namespace HWY_NAMESPACE {

// scores[2 * r + k] = weight[k] . u[r]. Two chains of sums an output: a row's bits depend on the row alone.
template <class T>
void ScoresOf(ConstMatrixView u, const float* weight, float* scores) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), n = u.cols;
  const float* w0 = weight;
  const float* w1 = weight + n;
  for (int64_t r = 0; r < u.rows; ++r) {
    const T* x = u.As<T>(r);
    auto a0 = hn::Zero(d), b0 = hn::Zero(d), a1 = hn::Zero(d), b1 = hn::Zero(d);
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const auto xa = LoadFloats(d, x + i), xb = LoadFloats(d, x + i + lanes);
      a0 = hn::MulAdd(xa, hn::LoadU(d, w0 + i), a0);
      a1 = hn::MulAdd(xa, hn::LoadU(d, w1 + i), a1);
      b0 = hn::MulAdd(xb, hn::LoadU(d, w0 + i + lanes), b0);
      b1 = hn::MulAdd(xb, hn::LoadU(d, w1 + i + lanes), b1);
    }
    float s0 = hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, b0)));
    float s1 = hn::GetLane(hn::SumOfLanes(d, hn::Add(a1, b1)));
    for (; i < n; ++i) {
      s0 += ToFloat(x[i]) * w0[i];
      s1 += ToFloat(x[i]) * w1[i];
    }
    scores[2 * r] = s0;
    scores[2 * r + 1] = s1;
  }
}

void GateScores(ConstMatrixView u, const float* weight, float* scores) {
  WithElementType(u.dtype, [&](auto t) { ScoresOf<decltype(t)>(u, weight, scores); });
}

// ds[r] = dL/ds1 = -dL/ds0 of row r: du[r] += ds[r] (w1 - w0), dw1 += ds[r] u[r].
template <class T>
void BackwardTileOf(ConstMatrixView u, const float* weight, const float* ds, MatrixView du, float* HWY_RESTRICT dw1) {
  const FloatTag d;
  for (int64_t r = 0; r < u.rows; ++r) {
    const T* x = u.As<T>(r);
    float* dx = du.F32(r);
    const FloatVec g = hn::Set(d, ds[r]);
    ForVectors(d, u.cols, [&](int64_t i, auto part) HWY_ATTR {
      const FloatVec slope = hn::Sub(Load(d, weight + u.cols + i, part), Load(d, weight + i, part));
      Store(hn::MulAdd(g, slope, Load(d, dx + i, part)), d, dx + i, part);
      Store(hn::MulAdd(g, Load(d, x + i, part), Load(d, dw1 + i, part)), d, dw1 + i, part);
    });
  }
}

void GateBackwardTile(ConstMatrixView u, const float* weight, const float* ds, MatrixView du, float* dw1) {
  WithElementType(u.dtype, [&](auto t) { BackwardTileOf<decltype(t)>(u, weight, ds, du, dw1); });
}

}  // namespace HWY_NAMESPACE
}  // namespace taipan
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace taipan {
namespace {

HWY_EXPORT(GateScores);
HWY_EXPORT(GateBackwardTile);

constexpr int64_t kRowTile = TilePartials::kRows;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

void TokenGate(const GateInputs& in, const GateValues& out) {
  CHECK_GT(in.tau, 0.0f);
  ParallelForRanges(in.u.rows, kRowTile, [&](int64_t begin, int64_t end) {
    float scores[2 * kRowTile];
    HWY_DYNAMIC_DISPATCH(GateScores)(in.u.Rows(begin, end - begin), in.weight, scores);
    for (int64_t t = begin; t < end; ++t) {
      const float s0 = scores[2 * (t - begin)] + in.bias[0], s1 = scores[2 * (t - begin) + 1] + in.bias[1];
      const float g0 = in.noise ? in.noise[2 * t] : 0.0f, g1 = in.noise ? in.noise[2 * t + 1] : 0.0f;
      // In f32, as the definition has it; false for a tie and for NaN.
      const float noisy = (s1 + g1) - (s0 + g0);
      out.selected[t] = noisy > in.delta ? 1 : 0;
      out.margin[t] = s1 - s0;
      out.alpha[t] = static_cast<float>(Sigmoid(static_cast<double>(s1) - s0));
      if (out.m_soft != nullptr) {
        const double difference = (static_cast<double>(s1) + g1) - (static_cast<double>(s0) + g0);
        out.m_soft[t] = static_cast<float>(Sigmoid((difference - in.delta) / in.tau));
      }
    }
  });
}

void TokenGateBackward(const GateInputs& in, const GateValues& saved, const GateGradients& out) {
  const int64_t rows = in.u.rows, d = in.u.cols;
  CHECK_EQ(out.du.rows, rows);
  CHECK_EQ(out.du.cols, d);
  if (rows == 0) return;
  CHECK(saved.alpha != nullptr && saved.m_soft != nullptr);
  TilePartials partials(rows, d + 1);  // dL/d weight[1], dL/d bias[1]
  ParallelForRanges(rows, kRowTile, [&](int64_t begin, int64_t end) {
    float ds[kRowTile];
    float* sums = partials.ClearedTile(begin);
    for (int64_t t = begin; t < end; ++t) {
      const double alpha = saved.alpha[t], m = saved.m_soft[t];
      ds[t - begin] = static_cast<float>(out.dalpha[t] * alpha * (1 - alpha) + out.dm[t] * m * (1 - m) / in.tau);
      sums[d] += ds[t - begin];
    }
    HWY_DYNAMIC_DISPATCH(GateBackwardTile)
    (in.u.Rows(begin, end - begin), in.weight, ds, out.du.Rows(begin, end - begin), sums);
  });
  std::vector<float> total(static_cast<size_t>(d + 1));
  partials.AddTo(total.data());
  for (int64_t c = 0; c < d; ++c) {
    out.dweight[c] -= total[static_cast<size_t>(c)];
    out.dweight[d + c] += total[static_cast<size_t>(c)];
  }
  out.dbias[0] -= total.back();
  out.dbias[1] += total.back();
}

}  // namespace taipan
#endif  // HWY_ONCE
