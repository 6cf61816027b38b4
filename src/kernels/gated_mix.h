#pragma once
// What a Selective Attention Layer does with attention's output (Taipan, section 3.2): h <- (1 - alpha) h + alpha o
// where a token is selected; others keep h.

#include "kernels/token_gate.h"
#include "tensor/tensor.h"

namespace taipan {

// o [n, d]: of the rows `rows` [n] of h [T, d] (null: all rows), ascending; those of them that are selected change.
void GatedMix(const GateValues& gate, const int64_t* rows, ConstMatrixView o, MatrixView h);
// From dh = dL/d h after the mix and h before it: d_o [n, d] is written, dm [T] (dL/d m) added to, dalpha [T] written
// where selected, dh becomes the gradient before the mix.
void GatedMixBackward(const GateValues& gate, const int64_t* rows, ConstMatrixView o, ConstMatrixView h, MatrixView dh,
                      MatrixView d_o, float* dm, float* dalpha);

}  // namespace taipan
