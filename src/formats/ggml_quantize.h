#pragma once
// f32 values as elements of GGUF's types.

#include <cstdint>

#include "tensor/ggml_blocks.h"

namespace taipan {

// F32, F16, BF16, Q8_0 (as ggml does) and the types of formats/ggml_round.h.
bool CanQuantize(GgmlType type);
// False where a finite value is out of the type's range or, for types of blocks, a value is not finite; `to` is void
// then.
[[nodiscard]] bool Quantize(GgmlType type, const float* from, int64_t n, void* to);

}  // namespace taipan
