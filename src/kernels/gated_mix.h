#pragma once
// What a Selective Attention Layer does with attention's output where a token is selected; others keep h.

#include "kernels/token_gate.h"
#include "tensor/tensor.h"

namespace taipan {

enum class Refinement {
  kMix,       // h <- (1 - alpha) h + alpha o (Taipan, section 3.2)
  kResidual,  // h <- h + alpha o
};

// o [n, d]: of the rows `rows` [n] of h [T, d] (null: all rows), ascending; those of them that are selected change.
void GatedMix(Refinement refinement, const GateValues& gate, const int64_t* rows, ConstMatrixView o, MatrixView h);

// What the backward pass reads: the forward's arguments, h before it (kMix alone).
struct GatedMixSaved {
  const GateValues& gate;
  const int64_t* rows;
  ConstMatrixView o, h;
};
// From dh = dL/d h after the mix: d_o [n, d] is written, dm [T] (dL/d m) added to, dalpha [T] written where selected,
// dh becomes the gradient before the mix.
void GatedMixBackward(Refinement refinement, const GatedMixSaved& saved, MatrixView dh, MatrixView d_o, float* dm,
                      float* dalpha);

}  // namespace taipan
