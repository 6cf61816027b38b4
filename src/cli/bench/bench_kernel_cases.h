#pragma once
// Single operations at a model's shapes, for `taipan bench kernels`.

#include <functional>
#include <optional>
#include <string>

#include "model/config.h"
#include "tensor/tensor.h"

namespace taipan {

struct KernelCase {
  std::string op;
  std::optional<double> share;  // of queries, attention of a SAL only
  double flops = 0, bytes = 0;  // useful ones of a call
  // Allocates operands and returns the call, which owns them. To be used while the case is visited.
  std::function<std::function<void()>()> prepare;
};

// Visits every linear layer, SSD, convolution, norms, SwiGLU, attention, forward and backward, head with loss, and
// AdamW, each once, on `tokens` rows of one sequence.
void ForEachKernelCase(const ModelConfig& config, int64_t tokens, DType dtype,
                       const std::function<void(const KernelCase&)>& visit);

}  // namespace taipan
