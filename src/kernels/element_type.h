#pragma once
// From the dtype of a view to the template of a kernel.

#include "tensor/tensor.h"

namespace taipan {

// Calls f with a value of the element type that activations of this dtype have: float or BF16.
template <class F>
void WithElementType(DType dtype, F&& f) {
  if (dtype == DType::kF32) {
    f(float{});
  } else {
    CHECK(dtype == DType::kBF16);
    f(BF16{});
  }
}

}  // namespace taipan
