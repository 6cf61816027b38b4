#pragma once
// What a model costs to run, from its config alone: parameters by group, bytes, FLOPs; in f32 unless something else is
// said. training_memory.h has what training takes.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "tensor/tensor.h"

namespace taipan {

struct ParameterCount {
  std::string group;
  int64_t count = 0;
};

// Bytes to run one sequence that has read `context` tokens.
struct RunCost {
  int64_t context = 0;  // tokens
  int64_t weight_bytes = 0;
  int64_t fixed_state_bytes = 0;  // SSM and convolution states
  int64_t window_bytes = 0;       // keys and values of the windows: at most sliding_window tokens
  int64_t full_bytes = 0;         // keys and values of full attention: grow with the context
  double flops_per_token = 0;     // forward, mean over the tokens of a sequence of this length

  int64_t state_bytes() const { return fixed_state_bytes + window_bytes + full_bytes; }
  int64_t total_bytes() const { return weight_bytes + state_bytes(); }
};

struct MemoryPlan {
  std::vector<ParameterCount> parameters;  // by group, in the order of the network
  int64_t parameter_count = 0;
  std::vector<RunCost> run;  // at the asked contexts
};

// The contexts of the table in `inspect`: 4K, 128K and 1M tokens.
std::vector<int64_t> StandardContexts();

// How it runs.
struct RunTypes {
  std::optional<int64_t> weight_bytes = std::nullopt;  // none: all in f32
  DType dtype = DType::kF32;                           // of activations
  DType kv_dtype = DType::kF32;                        // of keys and values: f32, bf16 or int8 with its scales
};

// Of a valid config. Contexts are at least 1 and at most 2^30. Selective attention counts queries of the budget's
// share.
MemoryPlan PlanMemory(const ModelConfig& config, const std::vector<int64_t>& contexts = StandardContexts(),
                      const RunTypes& types = {});

// Whether its memory grows with the context.
bool KeepsAllKeys(const ModelConfig& config);

// About the bytes of activations while a piece of so many tokens is read.
int64_t ScratchToRun(const ModelConfig& config, DType dtype, int64_t tokens);

}  // namespace taipan
