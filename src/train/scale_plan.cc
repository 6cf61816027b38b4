#include "train/scale_plan.h"

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "model/flops.h"
#include "model/parameters.h"

namespace taipan {

void CheckScale(const ScaleRequest& r) {
  if (r.batch % r.ranks == 0) return;
  throw UserError({"--batch-size", "its sequences cannot be shared out evenly",
                   fmt::format("a multiple of the {} machines", r.ranks), fmt::format("{}", r.batch)});
}

TrainingMemory ScaleMemory(const ModelConfig& config, const ScaleRequest& r, Recompute recompute) {
  TrainingMemory memory = PlanTraining(config, {.rows = std::min(r.micro_batch, r.batch / r.ranks),
                                                .context = r.context,
                                                .dtype = r.dtype,
                                                .recompute = recompute,
                                                .one_moment = r.optimizer == OptimizerKind::kMuon,
                                                .ranks = r.ranks});
  if (r.ranks > 1) {
    const double bucket = std::min(4 * static_cast<double>(Shards::kBucket), 4 * SumParameters(config));
    memory.scratch += static_cast<int64_t>(bucket * (1 + static_cast<double>(r.ranks - 1) / r.ranks));
  }
  return memory;
}

Recompute MildestRecompute(const ModelConfig& config, const ScaleRequest& r, int64_t available) {
  for (const Recompute recompute : {Recompute::kNone, Recompute::kMixer}) {
    if (ScaleMemory(config, r, recompute).total() <= available) return recompute;
  }
  return Recompute::kBlock;
}

double SentBytes(double parameters, int64_t ranks) {
  const double others = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  return 2 * others * 4 * parameters;
}

ScalePlan PlanScale(const ModelConfig& config, const ScaleRequest& r, const ScaleRates& rates) {
  CheckScale(r);
  const Workload work{.phase = Phase::kTrain,
                      .context = r.context,
                      .sequences = r.batch,
                      .selected_share = config.expected_share(),
                      .element_bytes = SizeOf(r.dtype)};
  const double step_tokens = static_cast<double>(r.batch) * static_cast<double>(r.context);
  const double ranks = static_cast<double>(r.ranks);
  ScalePlan plan;
  plan.parameters = SumParameters(config);
  plan.flops_per_token = TotalFlops(CostByOperation(config, work)) / step_tokens;
  plan.steps = static_cast<int64_t>(std::ceil(r.tokens / step_tokens));
  plan.rows_per_rank = r.batch / r.ranks;
  const double micro = static_cast<double>(std::min(r.micro_batch, plan.rows_per_rank));
  plan.compute_seconds = static_cast<double>(plan.rows_per_rank) / micro * rates.seconds_per_micro_batch;
  plan.sent_bytes = SentBytes(plan.parameters, r.ranks);
  if (r.ranks > 1) {
    plan.network_seconds = 8 * plan.sent_bytes / r.network;
    // Packed, added and unpacked on the way: the sums read and write the gradients three times, the gathering the
    // weights twice.
    plan.copy_seconds = 2 * 5 * 4 * plan.parameters / rates.copy_bytes_per_second;
  }
  plan.optimizer_seconds = rates.optimizer_seconds / ranks;
  return plan;
}

double ParseCount(const std::string& flag, const std::string& text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  double unit = 0;
  const std::string suffix(parsed.ptr, end);
  if (suffix.empty()) unit = 1;
  if (suffix == "K" || suffix == "k") unit = 1e3;
  if (suffix == "M") unit = 1e6;
  if (suffix == "B" || suffix == "G") unit = 1e9;
  if (suffix == "T") unit = 1e12;
  if (parsed.ec == std::errc() && unit > 0 && std::isfinite(number) && number > 0 && number * unit <= 1e18) {
    return number * unit;
  }
  throw UserError({flag, "not a number of tokens", "100B, 27.5M or 4096", "\"" + text + "\""});
}

}  // namespace taipan
