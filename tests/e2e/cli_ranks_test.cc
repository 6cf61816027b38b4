// mpirun -np N taipan train: several processes train one model.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"
#include "e2e/running.h"

namespace taipan {
namespace {

// As root and on fewer CPUs than ranks, as in containers.
void AllowRanks() {
  for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}) ::setenv(name, "1", 1);
  ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
  ::setenv("OMP_NUM_THREADS", "1", 1);
}

std::vector<std::string> Ranks(int n, const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"-np", std::to_string(n), TAIPAN_PROGRAM};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

struct Ended {
  int exit_code = -1;
  std::string err;
};
Ended Mpirun(const std::vector<std::string>& arguments, const TestFolder& folder) {
  Running run(arguments, folder / "err", folder / "out", STDIN_FILENO, "mpirun");
  const int status = run.Wait();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), ReadFile(folder / "err")};
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class RanksOfProcesses : public testing::Test {
 protected:
  void SetUp() override {
    if (!PathExists(std::string(TAIPAN_PROGRAM).substr(0, std::string(TAIPAN_PROGRAM).rfind('/')) +
                    "/libtaipan_mpi.so")) {
      GTEST_SKIP() << "built without MPI";
    }
    AllowRanks();
    std::string text;
    for (int i = 0; i < 500; ++i) text += "the number " + std::to_string(i) + " follows\n";
    WriteFileAtomically(folder_ / "text.txt", text);
  }
  std::vector<std::string> Arguments(const std::string& run, const std::string& steps) const {
    return {"train", "--model",     "taipan-1m", "--data",  folder_ / "text.txt",
            "--out", folder_ / run, "--steps",   steps,     "--batch-size",
            "2",     "--context",   "32",        "--dtype", "f32"};
  }
  std::vector<double> Losses(const std::string& run) const {
    std::vector<double> losses;
    std::istringstream lines(ReadFile(folder_ / run + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) losses.push_back(nlohmann::json::parse(line)["loss"]);
    return losses;
  }
  // A process of this rank below mpirun; 0 where there is none.
  static pid_t ProcessOf(int rank, pid_t mpirun) {
    for (const std::string& name : ListDirectory("/proc")) {
      if (name.find_first_not_of("0123456789") != name.npos) continue;
      try {
        const std::string stat = ReadFile("/proc/" + name + "/stat");
        if (std::atoi(stat.c_str() + stat.rfind(')') + 4) != mpirun) continue;
        const std::string environment = ReadFile("/proc/" + name + "/environ");
        if (environment.find("OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0') != environment.npos) {
          return std::atoi(name.c_str());
        }
      } catch (const std::exception&) {  // gone meanwhile
      }
    }
    return 0;
  }

  const TestFolder folder_;
};

TEST_F(RanksOfProcesses, TrainAsOneDoesAndSayThingsOnce) {
  const Ended two = Mpirun(Ranks(2, Arguments("two", "5")), folder_);
  EXPECT_EQ(two.exit_code, 0) << two.err;
  EXPECT_EQ(Count(two.err, "finished; the model is in"), 1) << two.err;
  EXPECT_EQ(Count(two.err, ", 2 ranks"), 1) << two.err;
  const ProgramResult one = RunTaipan(Arguments("one", "5"));
  EXPECT_EQ(one.exit_code, 0) << one.err;
  const std::vector<double> a = Losses("two"), b = Losses("one");
  ASSERT_EQ(a.size(), 5u);
  ASSERT_EQ(b.size(), 5u);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * b[i]);
}

TEST_F(RanksOfProcesses, HoldPartsOfTheSameSequences) {
  std::vector<std::string> arguments = Arguments("two", "5");
  arguments.insert(arguments.end(), {"--sequence-ranks", "2"});
  const Ended two = Mpirun(Ranks(2, arguments), folder_);
  EXPECT_EQ(two.exit_code, 0) << two.err;
  const ProgramResult one = RunTaipan(Arguments("one", "5"));
  EXPECT_EQ(one.exit_code, 0) << one.err;
  const std::vector<double> a = Losses("two"), b = Losses("one");
  ASSERT_EQ(a.size(), 5u);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * b[i]);
  *std::find(arguments.begin(), arguments.end(), "taipan-1m") = "transformer-1m";
  *std::find(arguments.begin(), arguments.end(), folder_ / "two") = folder_ / "none";
  const Ended refused = Mpirun(Ranks(2, arguments), folder_);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(Count(refused.err, "--sequence-ranks: full attention would need"), 1) << refused.err;
}

TEST_F(RanksOfProcesses, SeeTheSameDataOrAreRefused) {
  MakeDirectories(folder_ / "here");
  MakeDirectories(folder_ / "there");
  WriteFileAtomically(folder_ / "here/text.txt", std::string(400, 'a'));
  WriteFileAtomically(folder_ / "there/text.txt", std::string(401, 'a'));
  std::vector<std::string> arguments;
  for (const char* place : {"here", "there"}) {
    std::vector<std::string> own = Ranks(1, Arguments("run", "5"));
    *std::find(own.begin(), own.end(), folder_ / "text.txt") = "text.txt";
    if (!arguments.empty()) arguments.push_back(":");
    arguments.insert(arguments.end(), {"-wdir", folder_ / place});
    arguments.insert(arguments.end(), own.begin(), own.end());
  }
  const Ended ended = Mpirun(arguments, folder_);
  EXPECT_EQ(ended.exit_code, 1) << ended.err;
  EXPECT_EQ(Count(ended.err, "taipan: error: "), 1) << ended.err;
  EXPECT_EQ(
      Count(ended.err, "taipan: error: rank 1: text.txt: this rank sees other data than rank 0, expected 400 bytes"), 1)
      << ended.err;
  EXPECT_FALSE(PathExists(folder_ / "run"));
}

TEST_F(RanksOfProcesses, AKilledRankEndsTheRunAndItIsResumed) {
  std::vector<std::string> arguments = Arguments("run", "100000");
  arguments.insert(arguments.end(), {"--save-every", "5"});
  {
    Running run(Ranks(2, arguments), folder_ / "err", folder_ / "out", STDIN_FILENO, "mpirun");
    while (!PathExists(folder_ / "run/checkpoints/step-5") && !run.Ended()) ::usleep(1000);
    const pid_t second = ProcessOf(1, run.process());
    ASSERT_GT(second, 0) << ReadFile(folder_ / "err");
    const auto begin = std::chrono::steady_clock::now();
    ::kill(second, SIGKILL);
    const int status = run.Wait();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), 5.0);
    EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  const std::string err = ReadFile(folder_ / "err");
  // Said by rank 0 where it waits for rank 1, by mpirun in any case.
  EXPECT_LE(Count(err, "rank 1: its process has ended"), 1) << err;
  EXPECT_EQ(Count(err, "process rank 1 "), 1) << err;
  const ProgramResult resumed = RunTaipan({"train", "--resume", "--out", folder_ / "run", "--time-limit", "0.000001"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("resumes "), std::string::npos) << resumed.err;
}

TEST(RanksWithoutMpi, SayWhatIsMissing) {
  ::setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  ::setenv("TAIPAN_MPI_MODULE", "/nowhere", 1);
  const ProgramResult result = RunTaipan({"train", "--model", "taipan-1m", "--data", "x", "--out", "y"});
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  ::unsetenv("TAIPAN_MPI_MODULE");
  ExpectOneLineError(result, 1, {"mpirun, 2 ranks: this program cannot talk to the others", "libopenmpi-dev"});
}

}  // namespace
}  // namespace taipan
