#pragma once
// Numbers that change at given steps: schedules of the context and of the batch.

#include <cstdint>
#include <string>
#include <vector>

namespace taipan {

struct Stages {
  struct Stage {
    int64_t value = 0, last = 0;  // up to and with this step
  };
  std::vector<Stage> first;  // in the order of their steps
  int64_t rest = 0;          // from then on

  int64_t At(int64_t step) const;         // from 1
  int64_t SumBefore(int64_t step) const;  // of the steps before
};

// "1024:2000,2048:3000": 1024 up to step 2000, 2048 up to step 3000, then `rest`. UserError naming the flag.
Stages ParseStages(const std::string& flag, const std::string& text, int64_t rest);

}  // namespace taipan
