#include "model/memory_plan.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/cross_entropy.h"
#include "model/flops.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

// Absurd sizes stop at 2^62 instead of wrapping round; exact below 2^53.
int64_t Bytes(double bytes) { return static_cast<int64_t>(std::min(bytes, 0x1p62)); }

constexpr double kFloatBytes = 4;

// Of a row of keys or values.
double ElementBytes(const StateSpec& state, DType kv_dtype) {
  if (!state.per_token) return kFloatBytes;
  const double scale = kv_dtype == DType::kI8 ? kFloatBytes / static_cast<double>(state.shape[1]) : 0;
  return static_cast<double>(SizeOf(kv_dtype)) + scale;
}

RunCost CostToRun(const ModelConfig& c, int64_t context, int64_t weight_bytes, DType kv_dtype) {
  double fixed = 0, window = 0, full = 0;  // bytes
  ForEachState(DeclaredLayers(c), [&](size_t, const StateSpec& state) {
    double& sum = !state.per_token ? fixed : state.window > 0 ? window : full;
    sum += state.count(context) * ElementBytes(state, kv_dtype);
  });
  const Workload work{.phase = Phase::kScore, .context = context, .selected_share = c.expected_share()};
  return {.context = context,
          .weight_bytes = weight_bytes,
          .fixed_state_bytes = Bytes(fixed),
          .window_bytes = Bytes(window),
          .full_bytes = Bytes(full),
          .flops_per_token = TotalFlops(CostByOperation(c, work)) / static_cast<double>(context)};
}

}  // namespace

std::vector<int64_t> StandardContexts() { return {int64_t{4} << 10, int64_t{128} << 10, int64_t{1} << 20}; }

MemoryPlan PlanMemory(const ModelConfig& config, const std::vector<int64_t>& contexts, const RunTypes& types) {
  MemoryPlan plan;
  for (const ParameterGroup& group : ParameterGroups(config)) {
    plan.parameters.push_back({group.name, static_cast<int64_t>(group.count)});
  }
  plan.parameter_count = CountParameters(config);
  const int64_t weight_bytes = types.weight_bytes.value_or(plan.parameter_count * static_cast<int64_t>(kFloatBytes));
  for (int64_t context : contexts) {
    CHECK(context >= 1 && context <= int64_t{1} << 30);
    plan.run.push_back(CostToRun(config, context, weight_bytes, types.kv_dtype));
  }
  return plan;
}

bool KeepsAllKeys(const ModelConfig& config) { return CostToRun(config, 1, 0, DType::kF32).full_bytes > 0; }

// The stream, and what the largest branch or the head holds beside it. A branch that keeps nothing for a backward takes
// from its scratch what it would keep.
int64_t ScratchToRun(const ModelConfig& config, DType dtype, int64_t tokens) {
  const double element = static_cast<double>(SizeOf(dtype)), d = static_cast<double>(config.hidden_size);
  double most = (2 * kFloatBytes + element) * d;
  for (const Layer& layer : DeclaredLayers(config)) {
    for (const auto& branch : layer.branches) most = std::max(most, branch->Bytes(element, Keep::kAll).kept);
  }
  const double head = static_cast<double>(std::min(tokens, HeadChunkRows(config.vocab_size)) * config.vocab_size);
  return Bytes(static_cast<double>(tokens) * (kFloatBytes * d + most) + kFloatBytes * head);
}

}  // namespace taipan
