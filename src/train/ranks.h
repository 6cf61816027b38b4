#pragma once
// How several ranks train together: the first one runs the run and tells the others what comes next; they know neither
// its folder nor its plans. Of one rank everything here is a no-op.

#include <exception>
#include <string>

#include "dist/group.h"

namespace taipan {

enum class RankTask : int32_t {
  kBegin,   // of a run; a text comes with it
  kShare,   // the first rank's weights, moments and counters
  kStep,    // an update
  kGather,  // the moments, by the first rank
  kEnd,
};

// What a rank's part of an agreed failure throws where another rank reports it.
struct FailedElsewhere {};

class Ranks {
 public:
  // asked: what this rank's command line asks for, a JSON object whose keys are flags.
  explicit Ranks(Group& group, std::string asked = "{}") : group_(group), asked_(std::move(asked)) {}
  // Of the first rank: sends the others home, or leaves them where they are in the middle of a task.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  Group& group() const { return group_; }
  const std::string& asked() const { return asked_; }

  // Of the first rank: what all do now, until it is done. Of the others no-ops.
  void Start(RankTask task);
  void Done() { busy_ = false; }
  // Of the others: waits for it.
  RankTask Next();

  // By all ranks, within a task: goes on where no rank has an error. Else the task is done, the first rank throws its
  // own error or another's, with the number of the rank, and the others throw FailedElsewhere.
  void Agree(std::exception_ptr own);

 private:
  Group& group_;
  std::string asked_;
  bool busy_ = false;
};

Ranks& OneRank();

}  // namespace taipan
