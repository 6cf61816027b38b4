#pragma once
// What stands between a Mamba-2 scan and its output projection, z being the gate.

namespace taipan {

enum class GatedNorm {
  kGateFirst,  // RMSNorm(y * silu(z)), in groups
  kNormFirst,  // RMSNorm(y) * silu(z), in groups
  kNone,       // y * silu(z)
};

}  // namespace taipan
