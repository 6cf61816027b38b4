// A run in its folder: killed, interrupted, out of disk, resumed.

#include "train/run.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/signals.h"
#include "model/model_files.h"
#include "train/test_run.h"

namespace taipan {
namespace {

class RunTest : public RunFixture {};

TEST_F(RunTest, WritesEverythingThatARunPromises) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  const std::string run = folder_ / "run";
  std::vector<int64_t> steps, valid_steps;
  for (const std::string& text : Metrics("run")) {
    const auto line = nlohmann::json::parse(text);
    (line.contains("valid_ce") ? valid_steps : steps).push_back(line["step"].get<int64_t>());
    if (!line.contains("valid_ce")) continue;
    EXPECT_DOUBLE_EQ(line["valid_bits_per_byte"].get<double>(), line["valid_ce"].get<double>() / std::log(2.0));
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(valid_steps, (std::vector<int64_t>{4, 8, 10}));
  EXPECT_EQ(ListDirectory(run + "/checkpoints"), (std::vector<std::string>{"step-10", "step-5"}));
  EXPECT_EQ(ListDirectory(run + "/model"),
            (std::vector<std::string>{"config.json", "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(ListDirectory(run), (std::vector<std::string>{"checkpoints", "curve.svg", "data.json", "metrics.jsonl",
                                                          "model", "report.html", "run.json", "trainer.json"}));
  EXPECT_EQ(LoadModel(run + "/model").config().vocab_size, 256);
  TrainSettings saved;
  ReadRunFile(run + "/run.json", saved);
  EXPECT_EQ(saved, ResolveSettings(saved, ModelConfig{}, true));  // nothing is left open
}

TEST_F(RunTest, InterruptSavesAndResumeContinuesBitForBit) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-3"}));
  EXPECT_EQ(Metrics("run").size(), 3u);
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
  EXPECT_EQ(RunTraining(Resume("run"), {}), RunEnd::kAlreadyFinished);
  EXPECT_EQ(Metrics("run"), Metrics("straight"));
}

// The child of the tests below: a run that ends its own process after step 7.
TEST_F(RunTest, DISABLED_Child) {
  const char* const out = std::getenv("TAIPAN_TEST_RUN");
  const char* const signals = std::getenv("TAIPAN_TEST_SIGNALS");
  ASSERT_TRUE(out && signals);
  RunRequest request = Request("unused");
  request.settings.out = out;
  const std::string folder = std::filesystem::path(out).parent_path().string();
  request.settings.data = {folder + "/text.txt"};
  request.settings.valid_data = {folder + "/valid.txt"};
  const RunHooks hooks = At(request, 7, [&] {
    while (!PathExists(out + std::string("/checkpoints/step-5"))) usleep(100);
    if (std::string(signals) == "kill") raise(SIGKILL);
    kill(getpid(), SIGINT);
    while (StopSignal() == 0) usleep(100);
    kill(getpid(), SIGINT);
    sleep(10);
  });
  RunTraining(request, hooks);
  FAIL() << "still alive";
}

// A program of its own, because threads and a fork do not go together.
int RunChild(const std::string& out, const char* signals) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("TAIPAN_TEST_RUN", out.c_str(), 1);
    setenv("TAIPAN_TEST_SIGNALS", signals, 1);
    execl("/proc/self/exe", "child", "--gtest_filter=RunTest.DISABLED_Child", "--gtest_also_run_disabled_tests",
          "--gtest_brief=1", nullptr);
    _exit(99);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST_F(RunTest, KilledAndResumedContinuesBitForBit) {
  const int status = RunChild(folder_ / "run", "kill");
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-5"}));
  EXPECT_EQ(Metrics("run").size(), 8u);  // seven steps and a validation, the last two steps not in the checkpoint
  std::string torn = ReadFile(folder_ / "run/metrics.jsonl") + "{\"step\": 8, \"lo";
  WriteFileAtomically(folder_ / "run/metrics.jsonl", torn);
  MakeDirectories(folder_ / "run/checkpoints/.unfinished-10/model");
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-10", "step-5"}));
  ExpectLikeStraightRun("run");
}

TEST_F(RunTest, KilledBeforeTheFirstCheckpointBeginsAgain) {
  RunRequest request = Request("run");
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  RemoveTree(folder_ / "run/checkpoints");
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunTest, TheSecondInterruptEndsAtOnce) {
  const int status = RunChild(folder_ / "run", "interrupt");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGINT) << status;
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-5"}));
}

TEST_F(RunTest, AFullDiskKeepsTheCheckpointBefore) {
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  RunRequest request = Request("run");
  RunHooks hooks = At(request, 7, [&] {
    WaitForCheckpoint("run", 5);
    struct rlimit small = before;
    small.rlim_cur = 32768;  // metrics fit, weights do not
    setrlimit(RLIMIT_FSIZE, &small);
  });
  hooks.patience = {.retry = 0, .longest_retry = 0, .at_end = 0};
  const std::string error = UserErrorOf([&] { RunTraining(request, hooks); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(error.find("model.safetensors"), std::string::npos) << error;
  EXPECT_NE(error.find("File too large"), std::string::npos) << error;
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-5"}));
  EXPECT_NO_THROW(LoadModel(folder_ / "run/model"));
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunTest, DivergedRunsKeepTheLastGoodCheckpoint) {
  RunRequest request = Request("run");
  request.settings.learning_rate = 1e30;
  request.settings.warmup_steps = 9;
  request.settings.save_every = 1;
  const std::string error = ErrorOf(request);
  EXPECT_NE(error.find("training diverged"), std::string::npos) << error;
  EXPECT_NO_THROW(LoadModel(folder_ / "run/model"));
  for (const std::string& line : Metrics("run")) EXPECT_EQ(line.find("null"), std::string::npos) << line;
}

TEST_F(RunTest, TheTimeLimitStopsAndSaves) {
  RunRequest request = Request("run");
  request.settings.time_limit = 1e-6;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kTimeLimit);
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-1"}));
}

TEST_F(RunTest, RefusesAFolderThatHoldsARun) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  const std::string before = ReadFile(folder_ / "run/metrics.jsonl");
  EXPECT_NE(ErrorOf(Request("run")).find("already holds a run"), std::string::npos);
  EXPECT_EQ(ReadFile(folder_ / "run/metrics.jsonl"), before);
  // A model folder that is no run is not overwritten either, not even with --resume.
  MakeDirectories(folder_ / "other/model");
  EXPECT_NE(ErrorOf(Request("other")).find("already holds a run"), std::string::npos);
  EXPECT_NE(ErrorOf(Resume("other")).find("no run.json"), std::string::npos);
  EXPECT_EQ(RunTraining(Resume("new"), {}), RunEnd::kFinished);
}

TEST_F(RunTest, RefusesToContinueAsAnotherRun) {
  RunRequest first = Request("run");
  const RunHooks hooks = At(first, 3, [] { raise(SIGTERM); });
  ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);

  RunRequest other = Resume("run");
  other.settings.learning_rate = 0.5;
  EXPECT_NE(ErrorOf(other).find("run.json: the run was begun with another \"learning_rate\", expected 0.01, found 0.5"),
            std::string::npos)
      << ErrorOf(other);
  other = Resume("run");
  other.config->state_size = 16;
  EXPECT_NE(ErrorOf(other).find("another \"state_size\", expected 8, found 16"), std::string::npos) << ErrorOf(other);
  WriteFileAtomically(data_, SomeText(3001));
  EXPECT_NE(ErrorOf(Resume("run")).find("the run was trained on other data: file 1, expected text.txt (3000 bytes"),
            std::string::npos)
      << ErrorOf(Resume("run"));
  EXPECT_EQ(Metrics("run").size(), 3u);
}

TEST_F(RunTest, RequestedSettingsComeFromTheRunWhereItIsResumed) {
  RunRequest request = Request("run");
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  const Json given = {{"out", folder_ / "run"}, {"keep", 7}};
  const TrainSettings resumed = RequestedSettings("", given, /*resume=*/true);
  EXPECT_EQ(resumed.learning_rate, 1e-2);
  EXPECT_EQ(resumed.keep, 7);
  EXPECT_EQ(resumed.data, (std::vector<std::string>{data_}));
  EXPECT_EQ(RequestedSettings("", given, /*resume=*/false).learning_rate, TrainSettings{}.learning_rate);
  WriteFileAtomically(folder_ / "file.json", R"({"steps": 77, "keep": 3})");
  const TrainSettings both = RequestedSettings(folder_ / "file.json", given, /*resume=*/false);
  EXPECT_EQ(both.steps, 77);
  EXPECT_EQ(both.keep, 7);  // the command line wins
}

TEST_F(RunTest, TrainsOnBroughtWeightsAndTokenFiles) {
  MakeDirectories(folder_ / "start");
  LanguageModel start = TestModel(TestConfig(97));
  SaveModel(start, folder_ / "start");
  std::string bytes;
  for (int32_t id : TestTokens(1000)) bytes += {static_cast<char>(id), '\0'};
  WriteFileAtomically(folder_ / "tokens.u16", bytes);
  RunRequest request = Request("run");
  request.config = TestConfig(97);
  request.weights = OpenCheckpoint(folder_ / "start");
  request.settings.data = {folder_ / "tokens.u16"};
  request.settings.valid_data = {};
  request.settings.learning_rate = 0;
  request.settings.weight_decay = 0;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), ReadFile(folder_ / "start/model.safetensors"));
  EXPECT_FALSE(PathExists(folder_ / "run/model/tokenizer.json"));
  // Text has no tokenizer that fits into 97 ids.
  request = Request("text");
  request.config = TestConfig(97);
  request.weights = OpenCheckpoint(folder_ / "start");
  EXPECT_NE(ErrorOf(request).find("expected a vocabulary of at least 256, found 97"), std::string::npos)
      << ErrorOf(request);
  EXPECT_FALSE(PathExists(folder_ / "text"));
}

}  // namespace
}  // namespace taipan
