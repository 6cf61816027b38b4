#pragma once
// The live line of a training run.

#include <functional>
#include <string>

#include "base/progress.h"
#include "train/metrics.h"
#include "train/settings.h"

namespace taipan {

class RunProgress {
 public:
  // bytes_per_token 0: not known, bits a token are shown. seconds_before: spent by the parts of the run before this
  // one. roof: tokens a second that matrix products would allow, 0: not known, the share is left out; measured while
  // the machine was busy, perhaps: where steps are faster it is measured again, once, and raised if need be.
  using Roof = std::function<double(bool again)>;
  RunProgress(const TrainSettings& settings, double bytes_per_token, int64_t first_step, double seconds_before,
              Roof roof = nullptr);

  void Show(const StepMetrics& m);
  void Print(const std::string& text) { line_.Print(text); }  // stays, above the live line
  void Finish() { line_.Finish(); }
  void Restart(int64_t step, double seconds) { first_step_ = step, seconds_before_ = seconds; }  // after a rewind

  // step 120/1000 | loss 2.081 | 2.985 bits/byte | selected 0.15 0.17 | |g| 0.53 | lr 9.8e-04 | 12.3K tokens/s |
  // 61% of roof | 4m05s left. The loss is the cross entropy, which the bits are of; lambda * budget is not in it.
  std::vector<ProgressPart> Parts(const StepMetrics& m) const;

 private:
  void KeepBelowRoof(double tokens_per_second);
  ProgressLine line_;
  TrainSettings settings_;
  double bytes_per_token_;
  int64_t first_step_;
  double seconds_before_;
  Roof measure_;  // null: not any more
  double roof_ = 0;
};

// "step 7: a spike, skipped (loss 9.31, gradient norm 48.2)"
std::string SkippedLine(const StepMetrics& m);
// "step 7: valid 2.985 bits/byte, 2.069 nats a token over 65536 tokens; selected 0.15, with noise 0.18"
std::string ValidationLine(const ValidMetrics& m);

}  // namespace taipan
