#include "infer/draft_control.h"

#include <algorithm>

namespace taipan {
namespace {

constexpr int64_t kMeasured = 3;                   // plain steps before the first draft; the first one of all is slow
constexpr int64_t kJudged = 4;                     // drafts
constexpr int64_t kPause = 16, kMostPause = 1024;  // a loss doubles the pause, so all losses together stay small
constexpr int64_t kStale = 64;                     // drafts after which a plain step is measured again

}  // namespace

DraftControl::DraftControl(int64_t most, bool always) : most_(most), always_(always) {
  length_ = std::min(length_, most_);
}

int64_t DraftControl::Length() const {
  if (always_) return length_;
  return plain_steps_ < kMeasured || pause_left_ > 0 || since_ >= kStale ? 0 : length_;
}

void DraftControl::Plain(double seconds) {
  constexpr double kNew = 0.25;
  plain_seconds_ = plain_steps_ <= 1 ? seconds : plain_seconds_ + kNew * (seconds - plain_seconds_);
  ++plain_steps_;
  since_ = 0;
  pause_left_ = std::max<int64_t>(pause_left_ - 1, 0);
}

void DraftControl::Ahead(double seconds, int64_t drafted, int64_t accepted) {
  length_ = std::min(most_, accepted == drafted ? 2 * length_ : accepted + 1);
  ++since_;
  seconds_ += seconds;
  tokens_ += accepted + 1;
  if (++drafts_ < kJudged) return;
  const bool loses = seconds_ > plain_seconds_ * static_cast<double>(tokens_);
  pause_ = loses ? std::clamp(2 * pause_, kPause, kMostPause) : 0;
  pause_left_ = pause_;
  seconds_ = 0;
  drafts_ = tokens_ = 0;
}

}  // namespace taipan
