#include "train/run_changes.h"

#include "base/logging.h"
#include "train/schedule.h"

namespace taipan {

void NoteChanges(const TrainSettings& saved, const TrainSettings& now, int64_t next) {
  if (now.steps != saved.steps) {
    LogInfo(
        "goes to step {} instead of {}: from here on the learning rate follows the schedule of {} steps ({:.2e} at "
        "step {}, down to {:.2e}); lambda's ramp stays at {}",
        now.steps, saved.steps, now.steps, LearningRate(now, next), next, now.min_learning_rate.value(),
        now.budget_ramp);
  }
  if (now.schedule == Schedule::kWsd && now.decay_steps != saved.decay_steps) {
    LogInfo("the learning rate falls over the last {} steps", DecaySteps(now));
  }
  if (now.micro_batch_size != saved.micro_batch_size) {
    LogInfo("micro-batches of {} instead of {}: sums are rounded in another order, results stay equal within rounding",
            now.micro_batch_size.value(), saved.micro_batch_size.value());
  }
  if (now.segment != saved.segment) {
    LogInfo("segments of {} tokens instead of {} (0: whole sequences): results stay equal within rounding", now.segment,
            saved.segment);
  }
}

}  // namespace taipan
