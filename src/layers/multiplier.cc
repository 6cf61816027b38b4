#include "layers/multiplier.h"

#include "kernels/convert.h"
#include "kernels/scale.h"

namespace taipan {

void ScaledLinear(ConstMatrixView x, const Weight& w, float multiplier, MatrixView y, Accumulate acc, Arena& scratch) {
  if (multiplier == 1) return Linear(x, w, y, acc);
  const Arena::Scope scope(scratch);
  const MatrixView product = acc == Accumulate::kAdd ? scratch.Matrix(y.rows, y.cols) : y;
  Linear(x, w, product);
  acc == Accumulate::kAdd ? AddScaled(product, multiplier, y) : Scale(product, multiplier, y);
}

ConstMatrixView ScaledGradient(ConstMatrixView dh, float multiplier, DType dtype, Arena& arena) {
  if (multiplier == 1) return InDType(dh, dtype, arena);
  const MatrixView scaled = arena.Matrix(dh.rows, dh.cols, dtype);
  Scale(dh, multiplier, scaled);
  return scaled;
}

void Multiply(MatrixView m, float multiplier) {
  if (multiplier != 1) Scale(m, multiplier, m);
}

}  // namespace taipan
