// dt = clamp(softplus(raw + bias)): H values a token, in double where it matters and scalar: they are few.

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "kernels/ssd.h"

namespace taipan {
namespace {

constexpr int64_t kRowTile = 64;

double Softplus(double v) { return std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v))); }

}  // namespace

void SsdTimeStep(ConstMatrixView raw, const float* dt_bias, float lo, float hi, MatrixView dt) {
  ParallelForRanges(raw.rows, kRowTile, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* in = raw.F32(t);
      float* out = dt.F32(t);
      for (int64_t h = 0; h < raw.cols; ++h) {
        out[h] = std::clamp(static_cast<float>(Softplus(static_cast<double>(in[h]) + dt_bias[h])), lo, hi);
      }
    }
  });
}

void SsdTimeStepBackward(ConstMatrixView raw, const float* dt_bias, float lo, float hi, ConstMatrixView ddt,
                         MatrixView draw, float* ddt_bias) {
  const int64_t heads = raw.cols, tiles = (raw.rows + kRowTile - 1) / kRowTile;
  std::vector<double> partial(static_cast<size_t>(tiles * heads), 0.0);
  ParallelFor(tiles, [&](int64_t tile) {
    double* sums = partial.data() + tile * heads;
    const int64_t end = std::min(raw.rows, (tile + 1) * kRowTile);
    for (int64_t t = tile * kRowTile; t < end; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const double v = static_cast<double>(raw.F32(t)[h]) + dt_bias[h];
        const float dt = static_cast<float>(Softplus(v));
        const bool inside = dt >= lo && dt <= hi;
        const float grad = inside ? static_cast<float>(ddt.F32(t)[h] / (1.0 + std::exp(-v))) : 0.0f;
        draw.F32(t)[h] = grad;
        sums[h] += grad;
      }
    }
  });
  for (int64_t h = 0; h < heads; ++h) {
    double sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += partial[static_cast<size_t>(tile * heads + h)];
    ddt_bias[h] += static_cast<float>(sum);
  }
}

}  // namespace taipan
