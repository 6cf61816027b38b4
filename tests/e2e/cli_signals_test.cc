// Signals that ask a command to stop: a run is saved, says so and exits with 128 + the signal's number; everything else
// dies of the signal and leaves no temporary file.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test_folder.h"
#include "e2e/running.h"
#include "e2e/tiny_model.h"

namespace taipan {
namespace {

// Whether a file of the folder has a name with this part, looked for until the program ends.
bool AppearsIn(const std::string& folder, const std::string& part, Running& program) {
  for (;;) {
    const bool ended = program.Ended();
    for (const std::string& name : ListDirectory(folder)) {
      if (name.find(part) != std::string::npos) return true;
    }
    if (ended) return false;
    ::usleep(200);
  }
}

class SignalsToTrain : public testing::TestWithParam<std::tuple<int, std::string, std::string>> {};

TEST_P(SignalsToTrain, SaveAndSayHowItEnded) {
  const auto& [signal, dtype, threads] = GetParam();
  const TestFolder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "the number " + std::to_string(i) + " follows\n";
  WriteFileAtomically(folder / "text.txt", text);
  std::vector<std::string> arguments = {"train",     "--model",      "taipan-1m", "--data",  folder / "text.txt",
                                        "--out",     folder / "run", "--steps",   "100000",  "--batch-size",
                                        "1",         "--context",    "64",        "--dtype", dtype,
                                        "--threads", threads};
  Running run(arguments, folder / "err");
  while (!PathExists(folder / "run/metrics.jsonl") && !run.Ended()) ::usleep(1000);
  ::usleep(static_cast<useconds_t>(20000 + 17000 * (signal % 7)));
  run.Send(signal);
  const int status = run.Wait();
  const std::string err = ReadFile(folder / "err");
  ASSERT_TRUE(WIFEXITED(status)) << WTERMSIG(status) << err;
  EXPECT_EQ(WEXITSTATUS(status), 128 + signal) << err;
  const std::string last = err.substr(err.rfind('\n', err.size() - 2) + 1);
  EXPECT_NE(last.find(fmt::format("stopped by SIG{} after step ", sigabbrev_np(signal))), std::string::npos) << err;
  EXPECT_NE(last.find(" of 100000, saved; --resume continues"), std::string::npos) << err;
  const ProgramResult resumed = RunTaipan({"train", "--resume", "--out", folder / "run", "--time-limit", "0.000001"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("resumes "), std::string::npos) << resumed.err;
  EXPECT_NE(resumed.err.find("stopped by --time-limit after step "), std::string::npos) << resumed.err;
}

INSTANTIATE_TEST_SUITE_P(Signals, SignalsToTrain,
                         testing::Values(std::tuple(SIGTERM, "f32", "1"), std::tuple(SIGINT, "f32", "2"),
                                         std::tuple(SIGHUP, "bf16", "2")));

class SignalsToWriters : public testing::TestWithParam<int> {};

TEST_P(SignalsToWriters, LeaveNoTemporaryFiles) {
  const TestFolder folder;
  const auto stopped = [&](const std::vector<std::string>& arguments, const std::string& out) {
    MakeDirectories(folder / out);
    Running program(arguments, folder / "err");
    ASSERT_TRUE(AppearsIn(folder / out, ".tmp-", program)) << ReadFile(folder / "err");
    program.Send(GetParam());
    const int status = program.Wait();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == GetParam()) << status << ReadFile(folder / "err");
    EXPECT_EQ(ListDirectory(folder / out), std::vector<std::string>{});
  };
  stopped({"init", "--preset", "mamba2-8m", "--out", folder / "a/model"}, "a");
  ASSERT_EQ(RunTaipan({"init", "--preset", "mamba2-8m", "--out", folder / "model"}).exit_code, 0);
  stopped({"convert", folder / "model", folder / "b/model"}, "b");
  stopped({"convert", folder / "model", folder / "c/model.gguf"}, "c");
}

INSTANTIATE_TEST_SUITE_P(Signals, SignalsToWriters, testing::Values(SIGTERM, SIGINT, SIGHUP));

TEST(Signals, LeftoversOfKilledWritersGoWithTheNextWrite) {
  const TestFolder folder;
  MakeDirectories(folder / "out");
  {
    Running killed({"init", "--preset", "mamba2-8m", "--out", folder / "out/model"}, folder / "err");
    ASSERT_TRUE(AppearsIn(folder / "out", ".tmp-", killed));
  }
  ASSERT_EQ(ListDirectory(folder / "out").size(), 1u);
  ASSERT_EQ(RunTaipan({"init", "--preset", "mamba2-1m", "--out", folder / "out/model"}).exit_code, 0);
  EXPECT_EQ(ListDirectory(folder / "out"), std::vector<std::string>{"model"});
}

TEST(Signals, NohupKeepsARunAliveWhenTheTerminalGoes) {
  const TestFolder folder;
  WriteFileAtomically(folder / "text.txt", std::string(2000, 'x'));
  signal(SIGHUP, SIG_IGN);
  Running run({"train", "--model", "taipan-1m", "--data", folder / "text.txt", "--out", folder / "run", "--steps", "4",
               "--context", "32", "--threads", "1"},
              folder / "err");
  signal(SIGHUP, SIG_DFL);
  while (!PathExists(folder / "run/metrics.jsonl") && !run.Ended()) ::usleep(1000);
  run.Send(SIGHUP);
  EXPECT_EQ(run.Wait(), 0) << ReadFile(folder / "err");
}

}  // namespace
}  // namespace taipan
