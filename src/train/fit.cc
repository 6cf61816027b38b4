#include "train/fit.h"

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "model/training_memory.h"

namespace taipan {
namespace {

TrainingShape ShapeOf(const TrainSettings& s, int64_t ranks) {
  return {.rows = std::min(s.micro_batch_size.value(), s.batch_size / ranks),
          .context = s.context,
          .dtype = DTypeOf(s.dtype),
          .recompute = s.recompute,
          .one_moment = s.optimizer == OptimizerKind::kMuon,
          .average = s.ema > 0,
          .ranks = ranks};
}

int64_t Needed(const ModelConfig& config, const TrainSettings& s, int64_t ranks) {
  return PlanTraining(config, ShapeOf(s, ranks)).total();
}

// The mildest change that fits: what costs no accuracy and little time comes first. "" where nothing does.
std::string FlagsThatFit(const ModelConfig& config, const TrainSettings& asked, int64_t available, int64_t ranks) {
  const auto fits = [&](const TrainSettings& s) { return Needed(config, s, ranks) <= available; };
  TrainSettings s = asked;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kMixer, Recompute::kBlock}) {
    if (asked.recompute == Recompute::kBlock || recompute < asked.recompute) continue;
    s.recompute = recompute;
    for (int64_t rows = *asked.micro_batch_size; rows >= 1; rows = rows > 1 ? (rows + 1) / 2 : 0) {
      s.micro_batch_size = rows;
      if (!fits(s)) continue;
      std::string flags = s.recompute == asked.recompute ? "" : "--recompute " + NameIn(s.recompute);
      if (rows != *asked.micro_batch_size)
        flags += fmt::format("{}--micro-batch-size {}", flags.empty() ? "" : " ", rows);
      return flags;
    }
  }
  s = asked;
  s.dtype = ComputeType::kBF16;
  s.recompute = Recompute::kBlock;
  s.micro_batch_size = 1;
  for (; s.context >= 64; s.context /= 2) {
    if (!fits(s)) continue;
    std::string flags = "--dtype bf16 --recompute block --micro-batch-size 1";
    return s.context == asked.context ? flags : flags + fmt::format(" --context {}", s.context);
  }
  return "";
}

}  // namespace

void CheckFits(const ModelConfig& config, const TrainSettings& resolved, int64_t available, int64_t ranks) {
  const TrainingMemory plan = PlanTraining(config, ShapeOf(resolved, ranks));
  if (available <= 0 || plan.total() <= available) return;
  const std::string flags = FlagsThatFit(config, resolved, available, ranks);
  throw UserError({"memory", "this training does not fit", "at most " + FormatBytes(available) + ", what is available",
                   Describe(plan), flags.empty() ? "take a smaller model" : "it fits with " + flags});
}

}  // namespace taipan
