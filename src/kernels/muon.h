#pragma once
// Muon (Jordan and others, 2024): a step along the momentum of a matrix with all its singular values made equal, so
// that no few directions take the whole step. docs/math/muon.md.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rounding.h"
#include "tensor/tensor.h"

namespace taipan {

struct MuonSettings {
  double lr = 0, momentum = 0.95, weight_decay = 0;
  float gradient_scale = 1;  // clipping: gradients are multiplied by it first
};

struct MuonMatrix {      // [m, n] each, without gaps
  MatrixView param;      // f32
  MatrixView gradient;   // f32; left zero, for the next step's sums
  MatrixView momentum;   // f32, or bf16 that is rounded stochastically
  MatrixView bf16 = {};  // gets the new parameters, rounded; may be null
  double rate = 1;       // of this matrix, as a share of the learning rate; decay is not concerned
  Rounding rounding = {};
};

// M <- mu M + G; O = orthogonalised G + mu M; W <- W - lr * wd * W - lr * 0.2 sqrt(max(m, n)) O: the root mean square
// of the update is that of AdamW, about 0.2, so that one learning rate serves both (Liu and others, 2025). Matrices are
// shared out over the threads, each is one thread's work. `scratch`: one for each thread, kept from step to step.
void Muon(std::span<const MuonMatrix> matrices, const MuonSettings& settings, std::vector<Arena>& scratch);

// Of the products in Orthogonalise: bf16 where the CPU has instructions for them, else f32.
DType MuonProductType();

// U V^T of a matrix U S V^T whose Frobenius norm is at most 1, nearly: with n the eighth root of the sum of the
// singular values' eighth powers, those from 0.03 n up come between 0.62 and 1.38, smaller ones are multiplied by up
// to 21.5 / n. The result is in x or in memory of `scratch`.
MatrixView Orthogonalise(MatrixView x, Arena& scratch);

}  // namespace taipan
