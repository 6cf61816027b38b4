// Runs whose optimizer or schedule is not the default, from session to session.

#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "train/schedule.h"
#include "train/test_run.h"

namespace taipan {
namespace {

class RunScheduleTest : public RunFixture {
 protected:
  RunRequest WsdRequest(const std::string& run, int64_t steps) const {
    RunRequest request = Request(run);
    request.settings.schedule = Schedule::kWsd;
    request.settings.optimizer = OptimizerKind::kMuon;
    request.settings.steps = steps;
    return request;
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

// Three sessions at the peak, the last of them cooled down, are the run that was begun with its steps.
TEST_F(RunScheduleTest, AWsdRunOfSeveralSessionsIsTheRunInOneGo) {
  RunRequest one = WsdRequest("one", 14);
  one.settings.decay_steps = 4;
  ASSERT_EQ(RunTraining(one, {}), RunEnd::kFinished);

  RunRequest first = WsdRequest("run", 1000);
  RunHooks hooks = At(first, 5, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);
  RunRequest second = WsdRequest("run", 2000);
  second.resume = true;
  hooks = At(second, 10, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(second, hooks), RunEnd::kInterrupted);
  RunRequest last = WsdRequest("run", 14);  // a fifth of 14 steps is 2, but one may say more
  last.resume = true;
  last.settings.decay_steps = 4;
  hooks = At(last, 12, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(last, hooks), RunEnd::kInterrupted);
  RunRequest rest = WsdRequest("run", 14);
  rest.resume = true;
  ASSERT_EQ(RunTraining(rest, {}), RunEnd::kFinished);
  EXPECT_EQ(Rates("run"), Rates("one"));
  for (const char* file : {"model/model.safetensors", "checkpoints/step-14/optimizer.safetensors"}) {
    EXPECT_EQ(ReadFile(folder_ / "run/" + file), ReadFile(folder_ / "one/" + file)) << file;
  }
}

TEST_F(RunScheduleTest, CoolingDownBeginsWhereTheRunStands) {
  RunRequest first = WsdRequest("run", 100);
  const RunHooks hooks = At(first, 6, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(first, hooks), RunEnd::kInterrupted);
  RunRequest last = WsdRequest("run", 9);
  last.resume = true;
  last.settings.decay_steps = 8;  // of which three are left
  ASSERT_EQ(RunTraining(last, {}), RunEnd::kFinished);
  const std::vector<double> rates = Rates("run");
  ASSERT_EQ(rates.size(), 9u);
  const double peak = 1e-2, low = peak / 50;
  EXPECT_EQ(rates[5], peak);
  EXPECT_DOUBLE_EQ(rates[6], low + (peak - low) * (1 - std::sqrt(1.0 / 3)));
  EXPECT_EQ(rates[8], low);
  TrainSettings s;
  ReadRunFile(folder_ / "run/run.json", s);
  EXPECT_EQ(s.decay_steps, 3);
}

TEST_F(RunScheduleTest, AnotherOptimizerOrScheduleIsRefused) {
  ASSERT_EQ(RunTraining(Request("run"), {}), RunEnd::kFinished);
  RunRequest other = Resume("run");
  other.settings.optimizer = OptimizerKind::kMuon;
  EXPECT_NE(ErrorOf(other).find("the run was begun with another \"optimizer\", expected \"adamw\", found \"muon\""),
            std::string::npos)
      << ErrorOf(other);
  other = Resume("run");
  other.settings.moments = MomentType::kBF16;
  EXPECT_NE(ErrorOf(other).find("the run was begun with another \"moments\", expected \"f32\", found \"bf16\""),
            std::string::npos)
      << ErrorOf(other);
  other = Resume("run");
  other.settings.schedule = Schedule::kWsd;
  EXPECT_NE(ErrorOf(other).find("the run was begun with another \"schedule\""), std::string::npos) << ErrorOf(other);
}

}  // namespace
}  // namespace taipan
