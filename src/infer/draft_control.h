#pragma once
// How many tokens to guess, from what guessing cost and brought so far.

#include <cstdint>

namespace taipan {

class DraftControl {
 public:
  // always: however much is lost (tests).
  explicit DraftControl(int64_t most, bool always = false);

  int64_t Length() const;                                         // of the next draft; 0: a plain step
  void Plain(double seconds);                                     // a plain step took so long
  void Ahead(double seconds, int64_t drafted, int64_t accepted);  // a draft did

 private:
  const int64_t most_;
  const bool always_;
  int64_t length_ = 3;
  double plain_seconds_ = 0;             // of a step, lately
  int64_t plain_steps_ = 0, since_ = 0;  // drafts since the last one
  double seconds_ = 0;                   // of the drafts that are judged together, and what they brought
  int64_t drafts_ = 0, tokens_ = 0;
  int64_t pause_ = 0, pause_left_ = 0;  // plain steps
};

}  // namespace taipan
