#include "train/run_saver.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/progress.h"
#include "base/signals.h"

namespace taipan {
namespace {

std::string WhatOf(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

RunSaver::~RunSaver() {
  if (running_.valid()) running_.wait();
}

std::exception_ptr RunSaver::Try(int64_t step, const TrainingSnapshot& snapshot) const {
  try {
    options_.write(step, snapshot);
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

void RunSaver::Foreground(const std::string& why) {
  foreground_ = true;
  options_.say(fmt::format("{}: checkpoints are written between steps from now on", why));
}

void RunSaver::Begin(int64_t step, TrainingSnapshot snapshot) {
  step_ = step;
  began_ = NowSeconds();
  if (options_.background && !foreground_) {
    try {
      snapshot.Copy();
      running_ = std::async(std::launch::async, [this, step, taken = std::move(snapshot)] {
        TakeNoSignals();
        return Try(step, taken);
      });
      return;
    } catch (const std::bad_alloc&) {
      Foreground("there is no memory for a copy of the weights");
    } catch (const std::system_error& error) {
      Foreground(fmt::format("there is no thread to write with ({})", error.what()));
    }
  }
  Settle(Try(step, snapshot));
}

void RunSaver::Settle(const std::exception_ptr& failure) {
  if (!failure) {
    if (failed_) options_.say(fmt::format("the checkpoint of step {} is written", step_));
    saved_step_ = step_;
    wait_ = next_try_ = 0;
    failed_ = false;
    return;
  }
  failed_ = true;
  wait_ = std::min(options_.patience.longest_retry, wait_ > 0 ? 2 * wait_ : options_.patience.retry);
  next_try_ = NowSeconds() + wait_;
  wanted_ = true;
  const std::string left = saved_step_ > 0 ? fmt::format("; that of step {} stays", saved_step_) : "";
  options_.say(fmt::format("warning: the checkpoint of step {} was not written: {}{}; next try in {}", step_,
                           WhatOf(failure), left, FormatDuration(wait_)));
}

void RunSaver::Collect(bool wait) {
  if (!running_.valid()) return;
  if (!wait && running_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
  said_slow_ = false;
  Settle(running_.get());
}

void RunSaver::AfterStep(int64_t step, bool due, const Take& take) {
  Collect(/*wait=*/due && options_.punctual);
  if (due && running_.valid() && !said_slow_) {
    said_slow_ = true;
    options_.say(fmt::format("warning: the checkpoint of step {} is still being written after {}; the next one waits",
                             step_, FormatDuration(NowSeconds() - began_)));
  }
  wanted_ = wanted_ || due;
  if (!wanted_ || running_.valid() || NowSeconds() < next_try_) return;
  wanted_ = false;
  Begin(step, take());
}

void RunSaver::Finish(int64_t step, const Take& take, const std::function<bool()>& hurried) {
  Collect(/*wait=*/true);
  const double begin = NowSeconds();
  for (;;) {
    step_ = step;
    const std::exception_ptr failure = Try(step, take());
    const bool give_up = hurried() || NowSeconds() - begin >= options_.patience.at_end;
    if (failure && give_up) std::rethrow_exception(failure);
    Settle(failure);
    if (!failure) return;
    while (NowSeconds() < next_try_ && !hurried()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace taipan
