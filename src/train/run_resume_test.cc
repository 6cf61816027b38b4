// What happens to a run's folder besides training: others in it, damage, other settings, data that changes.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "train/schedule.h"
#include "train/test_run.h"

namespace taipan {
namespace {

class RunResumeTest : public RunFixture {
 protected:
  nlohmann::json State(const std::string& run) const {
    return nlohmann::json::parse(ReadFile(folder_ / run + "/trainer.json"));
  }
  void FlipBit(const std::string& path, size_t byte) const {
    std::string bytes = ReadFile(path);
    bytes.at(byte) = static_cast<char>(bytes[byte] ^ 4);
    std::ofstream(path, std::ios::binary) << bytes;  // in place
  }
  // Every file below a folder with its content.
  std::map<std::string, std::string> Contents(const std::string& folder) const {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) all[entry.path().string()] = ReadFile(entry.path().string());
    }
    return all;
  }
  std::vector<double> Rates(const std::string& run) const {
    std::vector<double> rates;
    for (const std::string& line : Metrics(run)) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("lr")) rates.push_back(json["lr"].get<double>());
    }
    return rates;
  }
};

TEST_F(RunResumeTest, OneProcessAtATime) {
  RunRequest request = Request("run");
  std::string resumed, begun;
  const RunHooks hooks = At(request, 6, [&] {
    resumed = ErrorOf(Resume("run"));
    begun = ErrorOf(Request("run"));
    EXPECT_NO_THROW(LoadModel(folder_ / "run/model"));  // looking is allowed
  });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kFinished);
  for (const std::string& error : {resumed, begun}) {
    EXPECT_NE(error.find("run: another process is training in this folder, expected none, found pid "),
              std::string::npos)
        << error;
  }
  ExpectLikeStraightRun("run");
  EXPECT_FALSE(PathExists(folder_ / "run/.lock"));
}

TEST_F(RunResumeTest, ADamagedCheckpointIsPassedOverAndKept) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  const std::string weights = folder_ / "run/checkpoints/step-10/optimizer.safetensors";
  FlipBit(weights, ReadFile(weights).size() / 2);
  const std::string damaged = ReadFile(weights);
  testing::internal::CaptureStderr();
  SetLogLevel(LogLevel::kInfo);
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("step-10 is damaged: the content of optimizer.safetensors"), std::string::npos) << said;
  EXPECT_NE(said.find("step-10 is kept as "), std::string::npos) << said;
  EXPECT_NE(said.find("after step 5"), std::string::npos) << said;
  ExpectLikeStraightRun("run");
  EXPECT_EQ(ReadFile(folder_ / "run/checkpoints/damaged-step-10/optimizer.safetensors"), damaged);
}

TEST_F(RunResumeTest, WithoutACompleteCheckpointNothingIsTouched) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  FlipBit(folder_ / "run/checkpoints/step-10/model/model.safetensors", 1000);
  FlipBit(folder_ / "run/checkpoints/step-5/trainer.json", 1);
  const auto before = Contents(folder_ / "run");
  const std::string error = ErrorOf(Resume("run"));
  for (const char* part :
       {"run/checkpoints: no checkpoint is complete, nothing was changed", "step-10: the content of model/model.saf",
        "step-5: the content of trainer.json", "--model ", "run/model and another --out"}) {
    EXPECT_NE(error.find(part), std::string::npos) << part << " in " << error;
  }
  EXPECT_EQ(Contents(folder_ / "run"), before);
}

TEST_F(RunResumeTest, BeginningAgainKeepsTheModelThatWasTrained) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  const std::string trained = ReadFile(folder_ / "run/model/model.safetensors");
  RemoveTree(folder_ / "run/checkpoints");
  RunRequest request = Resume("run");
  const RunHooks hooks = At(request, 2, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  EXPECT_EQ(ReadFile(folder_ / "run/model-before/model.safetensors"), trained);
  EXPECT_NE(ReadFile(folder_ / "run/model/model.safetensors"), trained);
}

TEST_F(RunResumeTest, WritingIntoTheModelHarmsNoCheckpoint) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 5, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
    std::ofstream(folder_ / "run/model/" + name) << "{}";
  }
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
  std::ofstream(folder_ / "run/model/config.json") << "{}";
  RemoveTree(folder_ / "run/model/model.safetensors");
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kAlreadyFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunResumeTest, MakesUpForAValidationThatASignalCut) {
  RunHooks at_once;  // the signal comes before the step, the validation after it is cut
  at_once.roof = [](const ModelConfig&, const TrainSettings&, bool) {
    raise(SIGINT);
    return 0.0;
  };
  const int64_t steps = Request("run").settings.steps;
  for (const int64_t due : {int64_t{4}, steps}) {
    RunRequest request = Resume("run");
    const RunHooks before = At(request, due - 1, [] { raise(SIGINT); });
    ASSERT_EQ(RunTraining(request, before), RunEnd::kInterrupted);
    ASSERT_EQ(RunTraining(Resume("run"), at_once), RunEnd::kInterrupted);
    EXPECT_EQ(nlohmann::json::parse(ReadFile(folder_ / "run/trainer.json")).at("step"), due);
    EXPECT_EQ(nlohmann::json::parse(ReadFile(folder_ / "run/trainer.json")).at("ended"), "signal");
  }
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
  EXPECT_EQ(RunTraining(Resume("run"), {}), RunEnd::kAlreadyFinished);
}

TEST_F(RunResumeTest, ShortensARunToLessThanItsWarmUp) {
  RunRequest request = Request("run");
  request.settings.steps = 40;
  request.settings.warmup_steps = 20;
  RunRequest stopped = request;
  const RunHooks hooks = At(stopped, 5, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(stopped, hooks), RunEnd::kInterrupted);
  request.resume = true;
  request.settings.steps = 8;
  EXPECT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  EXPECT_EQ(Metrics("run").back().find("nan"), std::string::npos);
  request.settings.out = folder_ / "other";
  EXPECT_NE(ErrorOf(request).find("--warmup-steps: longer than the run"), std::string::npos);
}

TEST_F(RunResumeTest, ADamagedLineOfMetricsIsNamedBeforeAnythingIsWritten) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 6, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  const std::string metrics = folder_ / "run/metrics.jsonl", good = ReadFile(metrics);
  WriteFileAtomically(metrics, "x" + good);
  RunRequest resumed = Resume("run");
  resumed.settings.steps = 12;
  const std::string run_file = ReadFile(folder_ / "run/run.json");
  const std::string error = ErrorOf(resumed);
  EXPECT_NE(error.find("metrics.jsonl:1: not a line of training metrics (move the file away"), std::string::npos)
      << error;
  EXPECT_EQ(ReadFile(folder_ / "run/run.json"), run_file);
  std::filesystem::remove(metrics);
  EXPECT_EQ(RunTraining(resumed, {}), RunEnd::kFinished);
}

TEST_F(RunResumeTest, LeftoversOfAKilledProcessAreRemoved) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 5, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  const auto before = Contents(folder_ / "run");
  for (const char* name : {".lock", "metrics.jsonl.tmp-77", "model/model.safetensors.tmp-77", ".first-model/x",
                           "checkpoints/.unfinished-7/x", "model.unfinished/x"}) {
    MakeDirectories(std::filesystem::path(folder_ / "run/" + name).parent_path().string());
    std::ofstream(folder_ / "run/" + name) << "torn";
  }
  std::ofstream(folder_ / "run/notes.tmp-of-mine") << "stays";
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  for (const auto& [path, content] : Contents(folder_ / "run")) {
    EXPECT_EQ(content.find("torn"), std::string::npos) << path;
  }
  EXPECT_TRUE(PathExists(folder_ / "run/notes.tmp-of-mine"));
  ExpectLikeStraightRun("run");
}

TEST_F(RunResumeTest, TrainerJsonTellsHowItEnded) {
  RunRequest request = Request("run");
  RunHooks hooks = At(request, 3, [&] {
    EXPECT_EQ(State("run")["ended"], "running");
    raise(SIGTERM);
  });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  EXPECT_EQ(State("run")["ended"], "signal");
  EXPECT_EQ(State("run")["signal"], "SIGTERM");
  EXPECT_EQ(State("run")["step"], 3);
  EXPECT_EQ(ReadFile(folder_ / "run/trainer.json"), ReadFile(folder_ / "run/checkpoints/step-3/trainer.json"));
  request = Resume("run");
  request.settings.time_limit = 1e-6;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kTimeLimit);
  EXPECT_EQ(State("run")["ended"], "time_limit");
  EXPECT_EQ(State("run")["signal"], "");
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  EXPECT_EQ(State("run")["ended"], "finished");
}

TEST_F(RunResumeTest, AFinishedRunGoesOn) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  RunRequest longer = Resume("run");
  longer.settings.steps = 20;
  RunRequest stopped = longer;
  const RunHooks hooks = At(stopped, 13, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(stopped, hooks), RunEnd::kInterrupted);
  // What the command line makes of a plain --resume.
  RunRequest rest = Resume("run");
  rest.settings = RequestedSettings("", {{"out", folder_ / "run"}}, /*resume=*/true);
  EXPECT_EQ(rest.settings.steps, 20);
  ASSERT_EQ(RunTraining(rest, {}), RunEnd::kFinished);

  ASSERT_EQ(RunTraining(Request("other"), {}), RunEnd::kFinished);
  longer.settings.out = folder_ / "other";
  ASSERT_EQ(RunTraining(longer, {}), RunEnd::kFinished);
  EXPECT_EQ(ReadFile(folder_ / "run/model/model.safetensors"), ReadFile(folder_ / "other/model/model.safetensors"));

  TrainSettings s;
  ReadRunFile(folder_ / "run/run.json", s);
  const std::vector<double> rates = Rates("run");
  ASSERT_EQ(rates.size(), 20u);
  for (int64_t step = 11; step <= 20; ++step) {
    EXPECT_EQ(rates[static_cast<size_t>(step - 1)], LearningRate(s, step)) << step;
  }
  EXPECT_GT(rates[10], rates[9]);  // the cosine of 20 steps is above that of 10
  EXPECT_EQ(s.warmup_steps, 2);
  EXPECT_EQ(s.budget_ramp, "2:8");

  RunRequest shorter = Resume("run");
  shorter.settings.steps = 19;
  EXPECT_NE(ErrorOf(shorter).find("--steps: the run has made more steps already, expected at least 20, found 19"),
            std::string::npos)
      << ErrorOf(shorter);
}

TEST_F(RunResumeTest, WhatLeavesResultsAloneMayChange) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  request = Resume("run");
  request.settings.recompute = Recompute::kBlock;
  request.settings.save_every = 4;
  request.settings.keep = 9;
  const RunHooks again = At(request, 6, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, again), RunEnd::kInterrupted);
  SetNumThreads(2);
  ASSERT_EQ(RunTraining(Resume("run"), {}), RunEnd::kFinished);
  SetNumThreads(1);
  ExpectLikeStraightRun("run");
}

TEST_F(RunResumeTest, OtherMicroBatchesAreAllowedWithinRounding) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  request = Resume("run");
  request.settings.micro_batch_size = 1;
  testing::internal::CaptureStderr();
  SetLogLevel(LogLevel::kInfo);
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("micro-batches of 1 instead of 4"), std::string::npos) << said;
  ASSERT_EQ(RunTraining(Request("straight"), {}), RunEnd::kFinished);
  const auto last = [&](const std::string& run) { return nlohmann::json::parse(Metrics(run).back())["valid_ce"]; };
  EXPECT_NEAR(last("run").get<double>(), last("straight").get<double>(), 1e-4);
}

TEST_F(RunResumeTest, AnotherArchitectureIsRefusedAsSuch) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  RunRequest other = Resume("run");
  other.config->layer_pattern = {LayerKind::kMamba2, LayerKind::kMamba2, LayerKind::kMamba2};
  other.config->budget_loss_weight = 0;
  other.settings.budget_loss_weight = std::nullopt;
  other.settings.budget_ramp = "";
  const std::string error = ErrorOf(other);
  EXPECT_NE(error.find("config.json: the run was begun with another \"layer_pattern\""), std::string::npos) << error;
  // What a request leaves open is the run's.
  RunRequest open = Resume("run");
  open.settings.budget_loss_weight = std::nullopt;
  open.settings.budget_ramp = "";
  EXPECT_EQ(RunTraining(open, {}), RunEnd::kFinished);
}

TEST_F(RunResumeTest, ADefaultMayBeSpelledOut) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  RunRequest other = Resume("run");
  other.settings.vocab_size = 300;
  EXPECT_NE(ErrorOf(other).find("config.json: the run was begun with another \"vocab_size\", expected 256, found 300"),
            std::string::npos)
      << ErrorOf(other);
  RunRequest same = Resume("run");
  same.settings.tokenizer = "byte";
  same.settings.vocab_size = 256;
  ASSERT_EQ(RunTraining(same, {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunResumeTest, AFailureBeforeTheFirstStepLeavesNothing) {
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 32768;  // run.json fits, weights do not
  const auto previous = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = ErrorOf(Request("a/run"));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, previous);
  EXPECT_NE(error.find("File too large"), std::string::npos) << error;
  EXPECT_FALSE(PathExists(folder_ / "a"));

  RunRequest bad = Request("run");
  bad.settings.context = 9999;
  EXPECT_NE(ErrorOf(bad), "");
  EXPECT_FALSE(PathExists(folder_ / "run"));
}

// A process that was killed before its first step, by the system that had no memory for it, say.
TEST_F(RunResumeTest, ARunWithoutAStepIsInNobodysWay) {
  for (const bool resume : {false, true}) {
    const std::string run = resume ? "second" : "first";
    ASSERT_EQ(RunTraining(Request(run), {}), RunEnd::kFinished);
    RemoveTree(folder_ / run + "/checkpoints");
    RemoveTree(folder_ / run + "/metrics.jsonl");
    WriteFileAtomically(folder_ / run + "/data.json", R"({"names": [], "bytes": [], "hashes": []})");
    EXPECT_EQ(RunTraining(resume ? Resume(run) : Request(run), {}), RunEnd::kFinished);
    ExpectLikeStraightRun(run);
    RemoveTree(folder_ / "straight");
  }
}

// Small data is in memory: the run is as it would have been.
TEST_F(RunResumeTest, SmallDataMayChangeWhileItTrains) {
  RunRequest request = Request("run");
  const RunHooks hooks = At(request, 4, [&] { std::ofstream(data_) << "other"; });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kFinished);
  EXPECT_NE(ErrorOf(Resume("run")).find("the run was trained on other data"), std::string::npos);
  WriteFileAtomically(data_, SomeText(3000));
  ExpectLikeStraightRun("run");
}

TEST_F(RunResumeTest, LargeDataThatIsCutEndsWithWhatWasTrained) {
  const std::string large = folder_ / "large.u16";
  std::ofstream(large) << std::string(2, '\0');
  std::filesystem::resize_file(large, uintmax_t{70} << 20);
  RunRequest request = Request("run");
  request.settings.data = {large};
  request.settings.valid_data = {};
  const RunHooks hooks = At(request, 7, [&] { std::filesystem::resize_file(large, 1000); });
  const std::string error = UserErrorOf([&] { RunTraining(request, hooks); });
  EXPECT_EQ(error.rfind(large + ": the data has changed since it was opened, expected 73400320 bytes", 0), 0u) << error;
  EXPECT_EQ(ListDirectory(folder_ / "run/checkpoints"), (std::vector<std::string>{"step-5", "step-7"}));
  EXPECT_EQ(State("run")["ended"], "failed");
  EXPECT_EQ(State("run")["error"], error);
  EXPECT_EQ(State("run")["step"], 7);
}

}  // namespace
}  // namespace taipan
