#pragma once
// Where the time of one thread goes, by operation: what `taipan bench` breaks a step into. Costs one test of a pointer
// while nobody records.

#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

struct OpTime {
  std::string op;
  double seconds = 0;  // without the operations timed inside it
  int64_t calls = 0;
};

// While it lives, OpTimers of this thread add to it. Not nested.
class OpRecorder {
 public:
  OpRecorder();
  ~OpRecorder();
  OpRecorder(const OpRecorder&) = delete;
  OpRecorder& operator=(const OpRecorder&) = delete;

  // By operation, in the order of their first use; Reset forgets them.
  const std::vector<OpTime>& times() const { return times_; }
  void Reset() { times_.clear(); }

 private:
  friend class OpTimer;
  OpTime& Find(const char* op);

  std::vector<OpTime> times_;
  class OpTimer* innermost_ = nullptr;
};

// Times one operation from construction to destruction. `op` must outlive the recorder: a literal.
class OpTimer {
 public:
  explicit OpTimer(const char* op);
  ~OpTimer();
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpRecorder* recorder_;
  OpTimer* outer_ = nullptr;
  const char* op_;
  double begin_ = 0, inside_ = 0;
};

}  // namespace taipan
