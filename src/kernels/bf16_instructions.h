#pragma once
// Whether kernels may run the CPU's own bf16 instructions (AVX512-BF16, AMX): it has them, and nothing forbids them.

#include <atomic>

namespace taipan {

bool HasAvx512BF16();  // of this CPU and its system; false on other architectures
bool HasAmxBF16();     // with AVX512-BF16

// Read in inner loops: a plain load on every architecture.
inline std::atomic<bool> bf16_instructions{HasAvx512BF16()};
inline std::atomic<bool> amx_instructions{HasAmxBF16()};

}  // namespace taipan
