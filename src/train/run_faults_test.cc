// Runs whose disk is full or slow, whose folder takes nothing, whose process is killed at any moment.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "base/write_faults.h"
#include "train/test_run.h"

namespace taipan {
namespace {

class RunFaultsTest : public RunFixture {
 protected:
  RunRequest OftenSaved(const std::string& run, ComputeType dtype = ComputeType::kF32) const {
    RunRequest request = Request(run);
    request.settings.dtype = dtype;
    request.settings.save_every = 2;
    return request;
  }
  void ExpectSame(const std::string& run, const std::string& straight) {
    EXPECT_EQ(Metrics(run), Metrics(straight));
    for (const char* file : {"model/model.safetensors", "checkpoints/step-10/optimizer.safetensors"}) {
      EXPECT_EQ(ReadFile(folder_ / run + "/" + file), ReadFile(folder_ / straight + "/" + file)) << file;
    }
  }
  static RunHooks Hasty() {
    RunHooks hooks;
    hooks.patience = {.retry = 0, .longest_retry = 0, .at_end = 0};
    return hooks;
  }
};

// The child of the test below: ends at the operation on files whose number it is told.
TEST_F(RunFaultsTest, DISABLED_Child) {
  const char* const out = std::getenv("TAIPAN_TEST_RUN");
  const char* const dtype = std::getenv("TAIPAN_TEST_DTYPE");
  const char* const operation = std::getenv("TAIPAN_TEST_OPERATION");
  ASSERT_TRUE(out && dtype && operation);
  RunRequest request = OftenSaved("unused", EnumNamed<ComputeType>(dtype));
  request.settings.out = out;
  request.resume = true;
  const std::string folder = std::filesystem::path(out).parent_path().string();
  request.settings.data = {folder + "/text.txt"};
  request.settings.valid_data = {folder + "/valid.txt"};
  std::atomic<int> left{std::atoi(operation)};
  const WriteFaults faults([&](WriteStage, const std::string&) {
    if (--left == 0) raise(SIGKILL);
    return 0;
  });
  RunTraining(request, {});
}

// Whether it was killed; false: it came to its end.
bool RunUntilOperation(const std::string& out, const std::string& dtype, uint64_t operation) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("TAIPAN_TEST_RUN", out.c_str(), 1);
    setenv("TAIPAN_TEST_DTYPE", dtype.c_str(), 1);
    setenv("TAIPAN_TEST_OPERATION", std::to_string(operation).c_str(), 1);
    execl("/proc/self/exe", "child", "--gtest_filter=RunFaultsTest.DISABLED_Child", "--gtest_also_run_disabled_tests",
          "--gtest_brief=1", nullptr);
    _exit(99);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << status;
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

TEST_F(RunFaultsTest, KilledAtTwentyRandomMomentsContinuesBitForBit) {
  int kills = 0;
  uint64_t draw = 0;
  for (const char* dtype : {"f32", "bf16"}) {
    const std::string straight = std::string("straight-") + dtype;
    ASSERT_EQ(RunTraining(OftenSaved(straight, EnumNamed<ComputeType>(dtype)), {}), RunEnd::kFinished);
    for (const int before = kills; kills < before + 10;) {
      const std::string run = fmt::format("run-{}", kills);
      const auto next = [&] { return 1 + RandomBelow({.seed = 4, .stream = kTestStream}, draw++, 400); };
      while (RunUntilOperation(folder_ / run, dtype, next())) ++kills;
      ExpectSame(run, straight);
    }
  }
}

TEST_F(RunFaultsTest, TrainingGoesOnWhileTheDiskIsFull) {
  const std::thread::id trainer = std::this_thread::get_id();
  std::atomic<bool> full{false}, refused{false};
  const WriteFaults faults([&](WriteStage stage, const std::string&) {
    if (!full || stage != WriteStage::kWrite) return 0;
    if (std::this_thread::get_id() != trainer) refused = true;
    return ENOSPC;
  });
  RunRequest request = OftenSaved("run");
  RunHooks hooks = Hasty();
  request.settings.sample_every = 1;
  hooks.sample = [&](const LanguageModel&, const Tokenizer*, int64_t step) {
    if (step == 3) WaitForCheckpoint("run", 2);
    for (int i = 0; step == 8 && !refused && i < 100000; ++i) usleep(100);
    full = step >= 5 && step <= 8;  // from before the line of step 6 on
    return std::string();
  };
  testing::internal::CaptureStderr();
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kFinished);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("metrics.jsonl: cannot write: No space left on device; lines wait in memory"), std::string::npos)
      << said;
  EXPECT_NE(said.find(" was not written: "), std::string::npos) << said;
  EXPECT_NE(said.find(" stays; next try in "), std::string::npos) << said;
  ExpectLikeStraightRun("run");
}

TEST_F(RunFaultsTest, AFullDiskAtTheEndKeepsTheCheckpointBefore) {
  std::atomic<bool> full{false};
  const WriteFaults faults(
      [&](WriteStage stage, const std::string&) { return full && stage == WriteStage::kWrite ? ENOSPC : 0; });
  RunRequest request = OftenSaved("run");
  RunHooks hooks = Hasty();
  request.settings.sample_every = 1;
  hooks.sample = [&](const LanguageModel&, const Tokenizer*, int64_t step) {
    if (step == 3) WaitForCheckpoint("run", 2);
    full = step >= 5;
    return std::string();
  };
  const std::string error = UserErrorOf([&] { RunTraining(request, hooks); });
  full = false;
  EXPECT_NE(error.find("No space left on device"), std::string::npos) << error;
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints").at(0), "step-2");
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunFaultsTest, AFolderThatTakesNothingForAWhile) {
  std::atomic<bool> refused{false};
  const WriteFaults faults(
      [&](WriteStage stage, const std::string&) { return refused && stage != WriteStage::kWrite ? EACCES : 0; });
  RunRequest request = OftenSaved("run");
  RunHooks hooks = Hasty();
  request.settings.sample_every = 1;
  hooks.sample = [&](const LanguageModel&, const Tokenizer*, int64_t step) {
    refused = step >= 3 && step <= 8;
    return std::string();
  };
  testing::internal::CaptureStderr();
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kFinished);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("Permission denied"), std::string::npos);
  ExpectLikeStraightRun("run");
}

TEST_F(RunFaultsTest, ASlowDiskHoldsNothingUp) {
  const std::thread::id trainer = std::this_thread::get_id();
  std::atomic<int64_t> step{0};
  std::atomic<bool> seen{false};
  // The first checkpoint takes as long as six steps.
  const WriteFaults faults([&](WriteStage, const std::string& path) {
    if (path.find("/.unfinished-2/") == path.npos || std::this_thread::get_id() == trainer) return 0;
    while (step < 8) usleep(100);
    seen = true;
    return 0;
  });
  RunRequest request = OftenSaved("run");
  RunHooks hooks;
  request.settings.sample_every = 1;
  hooks.sample = [&](const LanguageModel&, const Tokenizer*, int64_t now) {
    step = now;
    return std::string();
  };
  testing::internal::CaptureStderr();
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kFinished);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("the checkpoint of step 2 is still being written"),
            std::string::npos);
  EXPECT_TRUE(seen);
  ExpectLikeStraightRun("run");
}

}  // namespace
}  // namespace taipan
