#include "kernels/gated_mix.h"

#include "base/parallel.h"

namespace taipan {
namespace {

constexpr int64_t kRowsOfTask = 64;

}  // namespace

void GatedMix(const GateValues& gate, const int64_t* rows, ConstMatrixView o, MatrixView h) {
  CHECK_EQ(o.cols, h.cols);
  ParallelForRanges(o.rows, kRowsOfTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows ? rows[i] : i;
      if (!gate.selected[row]) continue;
      const float alpha = gate.alpha[row];
      float* to = h.F32(row);
      const float* from = o.F32(i);
      for (int64_t c = 0; c < h.cols; ++c) to[c] = (1.0f - alpha) * to[c] + alpha * from[c];
    }
  });
}

void GatedMixBackward(const GateValues& gate, const int64_t* rows, ConstMatrixView o, ConstMatrixView h, MatrixView dh,
                      MatrixView d_o, float* dm, float* dalpha) {
  CHECK_EQ(o.cols, dh.cols);
  ParallelForRanges(o.rows, kRowsOfTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows ? rows[i] : i;
      const float alpha = gate.alpha[row];
      const bool selected = gate.selected[row] != 0;
      float *dr = dh.F32(row), *to = d_o.F32(i);
      const float *from = o.F32(i), *before = h.F32(row);
      double dot = 0;  // <dr, o - h>
      for (int64_t c = 0; c < dh.cols; ++c) dot += static_cast<double>(dr[c]) * (from[c] - before[c]);
      dm[row] += static_cast<float>(alpha * dot);
      if (selected) dalpha[row] = static_cast<float>(dot);
      for (int64_t c = 0; c < dh.cols; ++c) {
        to[c] = selected ? alpha * dr[c] : 0.0f;
        if (selected) dr[c] *= 1.0f - alpha;
      }
    }
  });
}

}  // namespace taipan
