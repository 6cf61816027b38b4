#include "train/scale_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "model/flops.h"
#include "model/memory_plan.h"
#include "model/parameters.h"

namespace taipan {

namespace {

// Of a sequence after `tokens` tokens.
double StateBytesOf(const ModelConfig& config, int64_t tokens, DType kv) {
  return static_cast<double>(PlanMemory(config, {tokens}, {.kv_dtype = kv}).run[0].state_bytes());
}

// Seconds of the network that a step waits for: new weights, and of the gradients what a backward does not cover. The
// embedding's are known when the backward is over, as the last bucket's are.
double ExposedSeconds(const ModelConfig& config, const ScaleRequest& r, const ScaleRates& rates, double parameters) {
  const double half = 8 * SentBytes(parameters, r.ranks) / 2 / r.network;
  if (r.sequence_ranks > 1) return 2 * half;
  const double embedding = static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
  const double last = std::min(parameters, std::max(embedding, static_cast<double>(Shards::BucketSize(r.ranks))));
  return half + std::max(half * last / parameters, half - 2.0 / 3 * rates.seconds_per_micro_batch);
}

}  // namespace

void CheckScale(const ScaleRequest& r) {
  if (r.ranks % r.sequence_ranks != 0) {
    throw UserError({"--sequence-ranks", "the machines cannot be shared out evenly over sequences",
                     fmt::format("a divisor of the {} machines", r.ranks), fmt::format("{}", r.sequence_ranks)});
  }
  const int64_t groups = r.ranks / r.sequence_ranks;
  if (r.batch % groups == 0) return;
  throw UserError({"--batch-size", "its sequences cannot be shared out evenly",
                   r.sequence_ranks == 1 ? fmt::format("a multiple of the {} machines", r.ranks)
                                         : fmt::format("a multiple of {}: {} machines, {} for a sequence", groups,
                                                       r.ranks, r.sequence_ranks),
                   fmt::format("{}", r.batch)});
}

TrainingMemory ScaleMemory(const ModelConfig& config, const ScaleRequest& r, Recompute recompute) {
  const int64_t micro = std::min(r.micro_batch, r.rows_per_rank());
  TrainingMemory memory = PlanTraining(config, {.rows = micro,
                                                .context = r.own_context(),
                                                .dtype = r.dtype,
                                                .recompute = recompute,
                                                .one_moment = r.optimizer == OptimizerKind::kMuon,
                                                .moments = DTypeOf(r.moments),
                                                .ranks = r.ranks,
                                                .one_backward = r.sequence_ranks == 1 && micro == r.rows_per_rank()});
  if (r.ranks > 1) {  // of gradients one is filled, one travels, others' parts of it come in; of weights one travels
    const double bucket = std::min(4 * static_cast<double>(Shards::BucketSize(r.ranks)), 4 * SumParameters(config));
    memory.scratch += static_cast<int64_t>(bucket * (3 + static_cast<double>(r.ranks - 1) / r.ranks));
  }
  if (r.sequence_ranks > 1) {
    memory.kept +=
        static_cast<int64_t>(static_cast<double>(r.rows_per_rank()) * StateBytesOf(config, r.context, r.dtype) +
                             3 * static_cast<double>(micro) * StateBytesOf(config, r.context, DType::kF32));
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

double SentStateBytes(const ModelConfig& config, const ScaleRequest& r) {
  if (r.sequence_ranks == 1) return 0;
  const double both = StateBytesOf(config, r.context, r.dtype) + StateBytesOf(config, r.context, DType::kF32);
  return static_cast<double>(r.rows_per_rank()) * both;
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
  plan.rows_per_rank = r.rows_per_rank();
  const double micro = static_cast<double>(std::min(r.micro_batch, plan.rows_per_rank));
  const double batches = static_cast<double>(plan.rows_per_rank) / micro;
  const auto waits = static_cast<double>(r.sequence_ranks - 1);
  plan.idle_share = waits / (batches + waits);
  // The forward, a third, runs twice where a sequence lies on several ranks, but for the last micro-batch.
  const double again = r.sequence_ranks > 1 ? (batches - 1) / 3 : 0;
  plan.compute_seconds = (batches + again) / (1 - plan.idle_share) * rates.seconds_per_micro_batch;
  const double state_bytes = SentStateBytes(config, r);
  plan.sent_bytes = SentBytes(plan.parameters, r.ranks) + state_bytes;
  if (r.ranks > 1) {
    plan.network_seconds = ExposedSeconds(config, r, rates, plan.parameters) + 8 * state_bytes / r.network;
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
