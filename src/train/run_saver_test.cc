#include "train/run_saver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>

#include "base/error.h"

namespace taipan {
namespace {

bool Never() { return false; }
bool Always() { return true; }

// A disk of which the test says what it does.
struct Disk {
  std::vector<int64_t> written;
  std::vector<std::string> said;
  std::vector<float> first_weight;  // of what was written
  std::atomic<int> failures{0};     // that come next
  std::shared_future<void> slow;    // waited for where it is set

  RunSaver::Options Options(bool background = true) {
    return {.background = background,
            .patience = {.retry = 0, .longest_retry = 0, .at_end = 1000},
            .write = [this](int64_t step, const TrainingSnapshot& s) { Write(step, s); },
            .say = [this](const std::string& text) { said.push_back(text); }};
  }
  void Write(int64_t step, const TrainingSnapshot& snapshot) {
    if (slow.valid()) slow.wait();
    if (failures > 0) {
      --failures;
      throw UserError("disk", "full");
    }
    written.push_back(step);
    first_weight.push_back(*static_cast<const float*>(snapshot.tensors[0].items[0].data));
  }
};

struct Weights {
  float value[4] = {};
  TrainingSnapshot Take() const {
    TrainingSnapshot snapshot;
    snapshot.tensors.push_back({"w.safetensors", {{"w", DType::kF32, {4}, value}}});
    return snapshot;
  }
};

TEST(RunSaver, WritesWhatWasWhileTrainingGoesOn) {
  Disk disk;
  Weights weights;
  std::promise<void> ready;
  disk.slow = ready.get_future().share();
  {
    RunSaver saver(disk.Options());
    weights.value[0] = 1;
    saver.AfterStep(1, true, [&] { return weights.Take(); });
    weights.value[0] = 2;  // step 2, while step 1 is being written
    saver.AfterStep(2, false, [&] { return weights.Take(); });
    EXPECT_EQ(saver.saved_step(), 0);
    ready.set_value();
    saver.Wait();
    EXPECT_EQ(saver.saved_step(), 1);
  }
  EXPECT_EQ(disk.first_weight, (std::vector<float>{1}));
  EXPECT_EQ(disk.said, std::vector<std::string>());
}

TEST(RunSaver, ASaveThatComesDueMeanwhileFollows) {
  Disk disk;
  Weights weights;
  std::promise<void> ready;
  disk.slow = ready.get_future().share();
  RunSaver saver(disk.Options());
  for (int64_t step = 1; step <= 4; ++step) saver.AfterStep(step, step <= 3, [&] { return weights.Take(); });
  ASSERT_EQ(disk.said.size(), 1u);
  EXPECT_EQ(disk.said[0].find("warning: the checkpoint of step 1 is still being written after"), 0u) << disk.said[0];
  ready.set_value();
  saver.Wait();
  saver.AfterStep(5, false, [&] { return weights.Take(); });
  saver.Wait();
  saver.AfterStep(6, false, [&] { return weights.Take(); });
  saver.Wait();
  EXPECT_EQ(disk.written, (std::vector<int64_t>{1, 5}));
}

TEST(RunSaver, AFullDiskIsTriedAgain) {
  for (const bool background : {true, false}) {
    Disk disk;
    Weights weights;
    disk.failures = 2;
    RunSaver saver(disk.Options(background));
    for (int64_t step = 1; step <= 4; ++step) {
      saver.AfterStep(step, step == 1, [&] { return weights.Take(); });
      saver.Wait();
    }
    EXPECT_EQ(disk.written, (std::vector<int64_t>{3}));
    EXPECT_EQ(saver.saved_step(), 3);
    ASSERT_EQ(disk.said.size(), 3u);
    EXPECT_EQ(disk.said[0].find("warning: the checkpoint of step 1 was not written: disk: full; next try in"), 0u)
        << disk.said[0];
    EXPECT_EQ(disk.said[2], "the checkpoint of step 3 is written");
  }
}

TEST(RunSaver, TheLastSaveIsTriedUntilPatienceEnds) {
  Disk disk;
  Weights weights;
  disk.failures = 3;
  RunSaver saver(disk.Options());
  saver.Finish(
      7, [&] { return weights.Take(); }, Never);
  EXPECT_EQ(disk.written, (std::vector<int64_t>{7}));
  disk.failures = 1;
  EXPECT_THROW(saver.Finish(
                   8, [&] { return weights.Take(); }, Always),
               UserError);
  RunSaver::Options options = disk.Options();
  options.patience.at_end = 0;
  RunSaver hasty(options);
  disk.failures = 1;
  EXPECT_THROW(hasty.Finish(
                   8, [&] { return weights.Take(); }, Never),
               UserError);
  EXPECT_EQ(disk.written, (std::vector<int64_t>{7}));
}

}  // namespace
}  // namespace taipan
