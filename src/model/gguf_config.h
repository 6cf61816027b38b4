#pragma once
// A model's config in the metadata of a GGUF file, as llama.cpp spells it.

#include "formats/gguf.h"
#include "model/config.h"

namespace taipan {

// By which llama3 scaling divides the rotary frequencies [rotary_dim / 2]; llama.cpp has it as a tensor.
inline constexpr const char* kRopeDivisorsName = "rope_freqs.weight";

// Architectures llama, mamba2, granite, granitehybrid, nemotron_h and falcon-h1; others are refused by name, and what
// llama.cpp computes for them but this engine does
// not (experts, yarn). Sizes are checked; the tensors are not looked at beyond those that the config needs.
ModelConfig GgufModelConfig(const GgufFile& file);

// The metadata without the tokenizer's. UserError naming `where` (the model) and what GGUF cannot say of it.
GgufMetadata ModelMetadata(const ModelConfig& config, const std::string& where);

}  // namespace taipan
