#include "base/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace taipan {
namespace {

class ParallelTest : public ::testing::Test {
 protected:
  void TearDown() override { SetNumThreads(before_); }
  int before_ = NumThreads();
};

TEST_F(ParallelTest, EveryIndexOnceOnAThreadInRange) {
  for (const int threads : {1, 2, 3, 8}) {
    SetNumThreads(threads);
    for (const int64_t n : {0, 1, 2, 3, 17, 1000}) {
      std::vector<int> count(static_cast<size_t>(n), 0);
      std::atomic<int> wrong{0};
      ParallelFor(n, [&](int64_t i, int thread) {
        ++count[static_cast<size_t>(i)];
        if (thread < 0 || thread >= threads) ++wrong;
      });
      EXPECT_EQ(count, std::vector<int>(static_cast<size_t>(n), 1)) << n << " on " << threads;
      EXPECT_EQ(wrong, 0);
    }
  }
}

TEST_F(ParallelTest, HelpersTakePart) {
  SetNumThreads(2);
  std::atomic<bool> helped{false};
  for (int round = 0; round < 100 && !helped; ++round) {
    ParallelFor(50, [&](int64_t, int thread) {
      if (thread == 1) helped = true;
      if (!helped) std::this_thread::sleep_for(std::chrono::microseconds(200));
    });
  }
  EXPECT_TRUE(helped);
}

// Two threads at once: the second one begins in the middle. Then each index came once.
TEST_F(ParallelTest, RunsAreEachThreadsOwnUntilItHelps) {
  SetNumThreads(2);
  bool together = false;
  for (int round = 0; round < 100 && !together; ++round) {
    std::vector<int> count(10, 0);
    std::atomic<int64_t> first[2] = {-1, -1};
    ParallelForRuns(10, [&](int64_t i, int thread) {
      ++count[static_cast<size_t>(i)];
      int64_t none = -1;
      first[thread].compare_exchange_strong(none, i);
      if (first[1 - thread] < 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    });
    EXPECT_EQ(count, std::vector<int>(10, 1));
    together = first[0] == 0 && first[1] == 5;
  }
  EXPECT_TRUE(together);
}

TEST_F(ParallelTest, ManySmallLoopsLoseNothing) {
  for (const int threads : {2, 4}) {
    SetNumThreads(threads);
    int64_t total = 0;
    for (int round = 0; round < 20000; ++round) {
      int64_t parts[4] = {};
      ParallelFor(4, [&](int64_t i) { parts[i] = round + i; });
      total += std::accumulate(parts, parts + 4, int64_t{0});
    }
    EXPECT_EQ(total, 4 * (int64_t{20000} * 19999 / 2) + 6 * 20000);
  }
}

TEST_F(ParallelTest, RangesCoverEverythingInOrderWithinARange) {
  SetNumThreads(3);
  std::vector<int> seen(103, 0);
  ParallelForRanges(103, 10, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(begin % 10, 0);
    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
  });
  EXPECT_EQ(seen, std::vector<int>(103, 1));
}

TEST_F(ParallelTest, AnExceptionReachesTheCallerAndTheNextLoopWorks) {
  for (const int threads : {1, 3}) {
    SetNumThreads(threads);
    EXPECT_THROW(ParallelFor(20,
                             [](int64_t i) {
                               if (i == 7) throw std::runtime_error("seven");
                             }),
                 std::runtime_error);
    std::atomic<int> sum{0};
    ParallelFor(20, [&](int64_t) { ++sum; });
    EXPECT_EQ(sum, 20);
  }
}

TEST_F(ParallelTest, LoopsInsideTasksRunSerially) {
  SetNumThreads(2);
  std::atomic<int> sum{0};
  ParallelFor(6, [&](int64_t) { ParallelFor(5, [&](int64_t) { ++sum; }); });
  EXPECT_EQ(sum, 30);
}

TEST_F(ParallelTest, TwoCallersAtOnce) {
  SetNumThreads(2);
  std::atomic<int64_t> sum{0};
  const auto work = [&] {
    for (int round = 0; round < 2000; ++round) ParallelFor(8, [&](int64_t i) { sum += i; });
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(sum, 2 * 2000 * 28);
}

TEST_F(ParallelTest, AForkedChildWorksAlone) {
  SetNumThreads(4);
  ParallelFor(100, [](int64_t) {});
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> sum{0};
    ParallelFor(100, [&](int64_t) { ++sum; });
    _exit(sum == 100 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace taipan
