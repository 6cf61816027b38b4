#include "base/op_timer.h"

#include "base/clock.h"
#include "base/error.h"

namespace taipan {
namespace {

thread_local OpRecorder* current = nullptr;

}  // namespace

OpRecorder::OpRecorder() {
  CHECK(current == nullptr);
  current = this;
}

OpRecorder::~OpRecorder() { current = nullptr; }

OpTime& OpRecorder::Find(const char* op) {
  for (OpTime& t : times_) {
    if (t.op == op) return t;
  }
  times_.push_back({op, 0, 0});
  return times_.back();
}

OpTimer::OpTimer(const char* op) : recorder_(current), op_(op) {
  if (recorder_ == nullptr) return;
  outer_ = recorder_->innermost_;
  recorder_->innermost_ = this;
  begin_ = NowSeconds();
}

OpTimer::~OpTimer() {
  if (recorder_ == nullptr) return;
  const double seconds = NowSeconds() - begin_;
  recorder_->innermost_ = outer_;
  if (outer_ != nullptr) outer_->inside_ += seconds;
  OpTime& t = recorder_->Find(op_);
  t.seconds += seconds - inside_;
  ++t.calls;
}

}  // namespace taipan
