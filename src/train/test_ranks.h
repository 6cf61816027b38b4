#pragma once
// For tests: runs of several ranks, threads of this process.

#include <nlohmann/json.hpp>

#include "dist/test_group.h"
#include "train/run_ranks.h"
#include "train/test_run.h"

namespace taipan {

class RanksTest : public RunFixture {
 protected:
  static void TrainAs(Group& group, const RunRequest& request, RunHooks hooks = {}) {
    Ranks ranks(group);
    if (!group.leads()) return FollowTraining(ranks);
    hooks.ranks = &ranks;
    RunTraining(request, hooks);
  }
  // Trains as n ranks.
  static void Train(int n, const RunRequest& request, const RunHooks& hooks = {}) {
    AsRanks(n, [&](Group& group) { TrainAs(group, request, hooks); });
  }
  std::vector<nlohmann::json> Lines(const std::string& run) const {
    std::vector<nlohmann::json> lines;
    for (const std::string& line : Metrics(run)) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  void ExpectNear(const std::string& run, const std::string& reference, double relative) const {
    const std::vector<nlohmann::json> a = Lines(run), b = Lines(reference);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      for (const auto& [key, value] : b[i].items()) {
        if (!value.is_number()) continue;
        const double expected = value.get<double>();
        EXPECT_NEAR(a[i][key].get<double>(), expected, relative * std::abs(expected) + 1e-9) << key << ", line " << i;
      }
    }
  }
};

}  // namespace taipan
