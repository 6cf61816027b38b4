#pragma once
// One weight, or its gradient: declared first, bound to memory later, at the type that will be used.

#include <functional>

#include "kernels/gemm/gemm.h"
#include "layers/spec.h"
#include "tensor/tensor.h"

namespace taipan {

struct Weight {
  WeightSpec spec;
  // What is bound, in memory of our own or as a view of a mapped file: f32 alone (vectors, gradients, products in f32),
  // bf16 alone (inference in bf16), both (training in bf16: the master and its copy for products), or blocks alone
  // (inference with quantized weights, as the file stores them).
  Tensor f32 = {}, bf16 = {};
  QuantMatrix quant = {};
  // Tokens are looked up as they are stored: the rows of an embedding that runs in bf16 and is stored otherwise are
  // decoded from the file, one at a time.
  std::function<void(int64_t row, float* to)> rows = nullptr;

  Weight() = default;
  explicit Weight(WeightSpec s) : spec(std::move(s)) {}

  bool bound() const { return !f32.empty() || !bf16.empty() || !quant.empty() || rows; }
  float* F32() { return f32.F32(); }
  const float* F32() const { return f32.F32(); }
  operator LinearWeight() const { return {f32.Matrix(), bf16.Matrix(), quant.View()}; }
};

using WeightVisitor = std::function<void(Weight&)>;

// Visits the members given, in this order: what a ForEach of parameters says.
template <class... W>
void VisitWeights(const WeightVisitor& visit, W&... weights) {
  (visit(weights), ...);
}

}  // namespace taipan
