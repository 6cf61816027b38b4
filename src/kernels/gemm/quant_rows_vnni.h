#pragma once
// The part of quant_rows.h that runs AVX512-VNNI. Call only where HasAvx512Vnni().

#include "kernels/gemm/quant_rows.h"

namespace taipan {

bool HasAvx512Vnni();  // of this CPU and its system; false on other architectures

// out[rows][16]: x [rows][runs of 32], 1 to kFewQuantRows rows, by a group of the weight.
void QuantGroupVnni(const ActivationRun* x, int64_t rows, const QuantMatrixView& w, int64_t group, float* out);

}  // namespace taipan
