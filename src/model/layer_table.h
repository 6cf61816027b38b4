#pragma once
// Layer kinds: the one table that a new kind adds a row to. Everything that the rest of the code asks about a kind
// (weights, state, work, bytes) follows from its branches.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "layers/attention_core.h"
#include "layers/branch.h"
#include "layers/mamba2.h"
#include "model/config.h"

namespace taipan {

using Branches = std::vector<std::unique_ptr<Branch>>;

struct LayerRow {
  LayerKind kind;
  const char* name;  // in layer_pattern
  // rope: inverse frequencies; empty for declarations alone.
  Branches (*branches)(const ModelConfig& config, const std::vector<double>& rope);
  std::vector<void (*)(const ModelConfig& config, const std::string& where)> validate;  // UserError
};
const std::vector<LayerRow>& LayerTable();
const LayerRow& RowOf(LayerKind kind);

struct Layer {
  LayerKind kind;
  Branches branches;
};
// The layers of a config, ready to run; of a valid config.
std::vector<Layer> MakeLayers(const ModelConfig& config);
// The same for their declarations alone: takes no memory that a config decides.
std::vector<Layer> DeclaredLayers(const ModelConfig& config);

// Whether any branch of the config's layers is such.
bool AnyBranch(const ModelConfig& config, const std::function<bool(const Branch&)>& is);

// f(spec) for all that a layer remembers of a sequence: a state of its branches, or keys, or values.
template <class F>
void ForEachState(const Layer& layer, F&& f) {
  for (const auto& branch : layer.branches) {
    for (const StateSpec& spec : branch->State()) f(spec);
  }
}
// f(index of the layer, spec).
template <class F>
void ForEachState(const std::vector<Layer>& layers, F&& f) {
  for (size_t i = 0; i < layers.size(); ++i) {
    ForEachState(layers[i], [&](const StateSpec& spec) { f(i, spec); });
  }
}

// What the layers of a config are made with, for benchmarks of single kernels.
Mamba2Dims Mamba2DimsOf(const ModelConfig& config);
AttentionDims AttentionDimsOf(const ModelConfig& config, int64_t window, const std::vector<double>& rope);

// Tokens that the SSD takes at once: the config's chunk_size, or a divisor of it near 64. On Zen 4 with d_state 128 and
// head_dim 64 chunks of 64 took 0.8 to 0.9 of the time of 128 and 0.6 of 256 (docs/performance.md); the results agree
// within rounding.
int64_t SsdChunk(int64_t chunk_size);

}  // namespace taipan
