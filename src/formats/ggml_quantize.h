#pragma once
// f32 values as elements of GGUF's types.

#include <cstdint>

#include "tensor/ggml_blocks.h"

namespace taipan {

bool CanQuantize(GgmlType type);  // F32, F16, BF16, Q8_0
// False where a finite value is out of the type's range or, for Q8_0, a value is not finite; `to` is void then.
[[nodiscard]] bool Quantize(GgmlType type, const float* from, int64_t n, void* to);

}  // namespace taipan
