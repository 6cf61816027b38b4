#include "train/fit.h"

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "model/memory_plan.h"
#include "model/training_memory.h"

namespace taipan {
namespace {

// Tokens of a sequence that a rank holds.
int64_t OwnContext(const TrainSettings& s) { return (s.context + s.sequence_ranks - 1) / s.sequence_ranks; }

bool Cuts(const TrainSettings& s) { return s.segment > 0 && s.segment < OwnContext(s); }

int64_t RowsOfRank(const TrainSettings& s, int64_t ranks) { return s.batch_size / (ranks / s.sequence_ranks); }

int64_t RowsAtATime(const TrainSettings& s, int64_t ranks) {
  return std::min(s.micro_batch_size.value(), RowsOfRank(s, ranks));
}

TrainingShape ShapeOf(const TrainSettings& s, int64_t ranks) {
  return {.rows = RowsAtATime(s, ranks),
          .context = Cuts(s) ? s.segment : OwnContext(s),
          .dtype = DTypeOf(s.dtype),
          .recompute = s.recompute,
          .one_moment = s.optimizer == OptimizerKind::kMuon,
          .moments = DTypeOf(s.moments),
          .average = s.ema > 0,
          .ranks = ranks,
          .one_backward = !Cuts(s) && s.sequence_ranks == 1 && RowsAtATime(s, ranks) == RowsOfRank(s, ranks)};
}

// States between segments, with the gradients of two; those that rows of the step begin and end with; of rows that lie
// on several ranks those that come from the rank before, and what travels.
int64_t StateBytes(const ModelConfig& config, const TrainSettings& s, int64_t ranks) {
  const auto bytes = [&](int64_t tokens, DType kv) {
    const int64_t most = std::min(tokens, int64_t{1} << 30);
    return static_cast<double>(PlanMemory(config, {most}, {.kv_dtype = kv}).run[0].state_bytes());
  };
  const double rows = static_cast<double>(RowsAtATime(s, ranks)), of_step = static_cast<double>(s.batch_size);
  double sum = 0;
  if (Cuts(s)) {
    const auto between = static_cast<double>((OwnContext(s) - 1) / s.segment);
    sum += rows * (between * bytes(s.segment, DTypeOf(s.dtype)) + 2 * bytes(s.context, DType::kF32));
  }
  if (s.sequence_ranks > 1) {
    sum += static_cast<double>(RowsOfRank(s, ranks)) * bytes(s.context, DTypeOf(s.dtype));
    sum += 3 * rows * bytes(s.context, DType::kF32);
  }
  const int64_t read = s.state == StateStart::kCarry ? int64_t{1} << 30 : s.context;
  if (s.state != StateStart::kNone) sum += 2 * of_step * bytes(read, DTypeOf(s.dtype));
  return static_cast<int64_t>(std::min(sum, 0x1p60));
}

TrainingMemory PlanOf(const ModelConfig& config, const TrainSettings& s, int64_t ranks) {
  TrainingMemory plan = PlanTraining(config, ShapeOf(s, ranks));
  plan.kept += StateBytes(config, s, ranks);
  return plan;
}

int64_t Needed(const ModelConfig& config, const TrainSettings& s, int64_t ranks) {
  return PlanOf(config, s, ranks).total();
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
  std::string least = "--dtype bf16 --recompute block --micro-batch-size 1";
  for (const MomentType moments : {asked.moments, MomentType::kBF16}) {
    if (moments != s.moments) least += " --moments " + NameIn(moments);
    s.moments = moments;
    if (fits(s)) return least;
    if (asked.segment != 0 || KeepsAllKeys(config)) continue;
    for (s.segment = 8192; s.segment >= 1024; s.segment /= 2) {
      if (s.segment < s.context && fits(s)) return least + fmt::format(" --segment {}", s.segment);
    }
    s.segment = 0;
  }
  for (; s.context >= 64; s.context /= 2) {
    if (fits(s)) return least + fmt::format(" --context {}", s.context);
  }
  return "";
}

}  // namespace

void CheckFits(const ModelConfig& config, const TrainSettings& resolved, int64_t available, int64_t ranks) {
  const TrainingMemory plan = PlanOf(config, resolved, ranks);
  if (available <= 0 || plan.total() <= available) return;
  const std::string flags = FlagsThatFit(config, resolved, available, ranks);
  throw UserError({"memory", "this training does not fit", "at most " + FormatBytes(available) + ", what is available",
                   Describe(plan), flags.empty() ? "take a smaller model" : "it fits with " + flags});
}

bool HasRoomForCopy(const ModelConfig& config, const TrainSettings& resolved, int64_t available, int64_t ranks) {
  const TrainingMemory plan = PlanTraining(config, ShapeOf(resolved, ranks));
  return available <= 0 || plan.total() + plan.snapshot() <= available;
}

}  // namespace taipan
