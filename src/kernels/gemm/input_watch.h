#pragma once
// Shows the inputs of products: calibration asks what a weight is multiplied with.

#include <functional>

#include "kernels/gemm/gemm.h"

namespace taipan {

// While one lives, it is shown each call of Linear on this thread before the product.
class InputWatch {
 public:
  using Show = std::function<void(const LinearWeight& w, ConstMatrixView x)>;
  explicit InputWatch(Show show);
  ~InputWatch();
  InputWatch(const InputWatch&) = delete;
  InputWatch& operator=(const InputWatch&) = delete;

 private:
  const Show show_;
  const Show* const before_;
};

}  // namespace taipan
