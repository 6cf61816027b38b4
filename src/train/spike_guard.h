#pragma once
// Leaves out the update of a step whose loss or gradient norm lies far above those of the steps before it.

#include <cstdint>
#include <vector>

namespace taipan {

// All that its next judgement depends on.
struct SpikeWindow {
  std::vector<double> losses, norms;  // of the last steps that were taken, oldest first
  int64_t in_a_row = 0;               // skipped since
  int64_t skipped = 0;                // since the first step
};

class SpikeGuard {
 public:
  static constexpr size_t kWindow = 128;  // steps compared with
  static constexpr size_t kLeast = 32;    // before so many there is no judgement but on numbers that are not finite

  // deviations: standard deviations above the window's mean from which on a step is skipped.
  explicit SpikeGuard(double deviations) : deviations_(deviations) {}

  // Whether the step is to be taken; remembers it either way.
  bool Take(double loss, double gradient_norm);
  // Begins a new window: what was far above is the level now.
  void Forget();

  const SpikeWindow& window() const { return window_; }
  void SetWindow(SpikeWindow window) { window_ = std::move(window); }

 private:
  double deviations_;
  SpikeWindow window_;
};

}  // namespace taipan
