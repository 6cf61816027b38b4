#include "model/memory_plan.h"

#include <algorithm>

#include "base/error.h"
#include "model/flops.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

constexpr int kFloatBytes = 4;

// Absurd sizes stop at 2^62 instead of wrapping round; exact below 2^53.
int64_t Bytes(double floats) { return static_cast<int64_t>(std::min(floats * kFloatBytes, 0x1p62)); }

RunCost CostToRun(const ModelConfig& c, int64_t context, int64_t weight_bytes) {
  double fixed = 0, window = 0, full = 0;  // floats
  for (const Layer& layer : DeclaredLayers(c)) {
    for (const auto& branch : layer.branches) {
      for (const StateSpec& state : branch->State()) {
        double& sum = !state.per_token ? fixed : state.window > 0 ? window : full;
        sum += state.count(context);
      }
    }
  }
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

MemoryPlan PlanMemory(const ModelConfig& config, const std::vector<int64_t>& contexts) {
  MemoryPlan plan;
  for (const ParameterGroup& group : ParameterGroups(config)) {
    plan.parameters.push_back({group.name, static_cast<int64_t>(group.count)});
  }
  plan.parameter_count = CountParameters(config);
  const int64_t weight_bytes = plan.parameter_count * kFloatBytes;
  for (int64_t context : contexts) {
    CHECK(context >= 1 && context <= int64_t{1} << 30);
    plan.run.push_back(CostToRun(config, context, weight_bytes));
  }
  return plan;
}

}  // namespace taipan
