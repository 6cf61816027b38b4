#pragma once
// Named configs, and the layer patterns that they are made of.

#include <string>
#include <vector>

#include "model/config.h"

namespace taipan {

// The layer pattern of taipan, mamba2, transformer, jamba or samba. In the three hybrids one attention block follows
// every mamba_blocks / attention_blocks Mamba-2 blocks; mamba2 has no attention blocks, transformer no Mamba-2 blocks.
// UserError for another name or counts that the pattern cannot have.
std::vector<LayerKind> MakePattern(const std::string& name, int64_t mamba_blocks, int64_t attention_blocks);

// Presets: taipan-190m, -450m, -1.3b with their baselines (mamba2-190m, transformer-190m, jamba-190m, samba-190m, ...)
// at equal parameter count within 3 %, and laptop sizes 1m, 8m, 30m in the same five patterns.
struct Preset {
  std::string name;
  ModelConfig config;
  std::string summary;  // a line for the table
};
const std::vector<Preset>& Presets();
const Preset& FindPreset(const std::string& name);  // UserError with the nearest name

}  // namespace taipan
