#pragma once
// When and how a running training saves: in a thread of its own where memory has room for a copy of what is saved, and
// again later where the disk refuses. Training goes on meanwhile.

#include <cstdint>
#include <functional>
#include <future>
#include <string>

#include "train/snapshot.h"

namespace taipan {

struct SavePatience {
  double retry = 10, longest_retry = 300;  // seconds before a failed save is tried again, doubled from one to the next
  double at_end = 600;                     // seconds that the last save of a run is tried again and again
};

class RunSaver {
 public:
  struct Options {
    bool background = true;
    bool punctual = false;  // a checkpoint that is due waits for the one before, training with it
    SavePatience patience = {};
    int64_t saved_step = 0;                                                     // of the checkpoint that there is
    std::function<void(int64_t step, const TrainingSnapshot& snapshot)> write;  // throws where it cannot
    std::function<void(const std::string& warning)> say;
  };
  using Take = std::function<TrainingSnapshot()>;

  explicit RunSaver(Options options) : options_(std::move(options)), saved_step_(options_.saved_step) {}
  ~RunSaver();  // waits for what is being written
  RunSaver(const RunSaver&) = delete;
  RunSaver& operator=(const RunSaver&) = delete;

  // After each step. due: a checkpoint is wanted now, or, where one is being written, as soon as that is done. What is
  // saved is the state of the step at which the writing begins. Only `take` throws.
  void AfterStep(int64_t step, bool due, const Take& take);

  // Saves this step before it returns; throws what the disk says at the end of the patience, at once where `hurried`.
  void Finish(int64_t step, const Take& take, const std::function<bool()>& hurried);

  // Waits until nothing is being written.
  void Wait() { Collect(/*wait=*/true); }

  int64_t saved_step() const { return saved_step_; }  // of the newest complete checkpoint

 private:
  std::exception_ptr Try(int64_t step, const TrainingSnapshot& snapshot) const;
  void Begin(int64_t step, TrainingSnapshot snapshot);
  void Collect(bool wait);
  void Settle(const std::exception_ptr& failure);
  void Foreground(const std::string& why);

  const Options options_;
  int64_t saved_step_;
  bool foreground_ = false, wanted_ = false, said_slow_ = false;
  int64_t step_ = 0;                         // of the last attempt
  double began_ = 0, next_try_ = 0;          // seconds of the clock
  double wait_ = 0;                          // after the last failure
  bool failed_ = false;                      // the last attempt
  std::future<std::exception_ptr> running_;  // of the thread that writes; last: waits for it
};

}  // namespace taipan
