#pragma once
// Which instruction sets the kernels may use: all that the CPU has, or fewer on request, to compare or to test.

#include <string>
#include <vector>

namespace taipan {

// From least to most: "scalar", "avx2", "avx512" (without its bf16 instructions), "avx512_bf16", "native" (everything;
// with AMX where the CPU has it, through oneDNN).
std::vector<std::string> IsaNames();

// Forbids what lies above `name`, for the rest of the process; before the first product. UserError naming `where` for a
// name that is none, or a set that this CPU does not have.
void LimitIsa(const std::string& name, const std::string& where);

// The best set in use, from what the CPU has and what is allowed: "avx512_bf16", "amx", ...
std::string ActiveIsa();

}  // namespace taipan
