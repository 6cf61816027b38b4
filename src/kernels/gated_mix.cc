#include "kernels/gated_mix.h"

#include "base/parallel.h"

namespace taipan {
namespace {

constexpr int64_t kRowsOfTask = 64;

}  // namespace

void GatedMix(Refinement refinement, const GateValues& gate, const int64_t* rows, ConstMatrixView o, MatrixView h) {
  CHECK_EQ(o.cols, h.cols);
  const bool mix = refinement == Refinement::kMix;
  ParallelForRanges(o.rows, kRowsOfTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows ? rows[i] : i;
      if (!gate.selected[row]) continue;
      const float alpha = gate.alpha[row], rest = mix ? 1.0f - alpha : 1.0f;
      float* to = h.F32(row);
      const float* from = o.F32(i);
      for (int64_t c = 0; c < h.cols; ++c) to[c] = rest * to[c] + alpha * from[c];
    }
  });
}

void GatedMixBackward(Refinement refinement, const GatedMixSaved& saved, MatrixView dh, MatrixView d_o, float* dm,
                      float* dalpha) {
  const auto& [gate, rows, o, h] = saved;
  CHECK_EQ(o.cols, dh.cols);
  const bool mix = refinement == Refinement::kMix;
  ParallelForRanges(o.rows, kRowsOfTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows ? rows[i] : i;
      const float alpha = gate.alpha[row];
      const bool selected = gate.selected[row] != 0;
      float *dr = dh.F32(row), *to = d_o.F32(i);
      const float* from = o.F32(i);
      double dot = 0;  // <dr, o - h>; without h in a residual
      if (mix) {
        const float* before = h.F32(row);
        for (int64_t c = 0; c < dh.cols; ++c) dot += static_cast<double>(dr[c]) * (from[c] - before[c]);
      } else {
        for (int64_t c = 0; c < dh.cols; ++c) dot += static_cast<double>(dr[c]) * from[c];
      }
      dm[row] += static_cast<float>(alpha * dot);
      if (selected) dalpha[row] = static_cast<float>(dot);
      for (int64_t c = 0; c < dh.cols; ++c) {
        to[c] = selected ? alpha * dr[c] : 0.0f;
        if (selected && mix) dr[c] *= 1.0f - alpha;
      }
    }
  });
}

}  // namespace taipan
