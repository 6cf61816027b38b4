#include "train/checkpoints.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/test_folder.h"

namespace taipan {
namespace {

class CheckpointsTest : public testing::Test {
 protected:
  Checkpoint Write(int64_t step, int64_t keep = 2) {
    return Checkpoints(folder_.path(), keep).Write(step, [&](const std::string& directory) {
      MakeDirectories(directory + "/model");
      WriteFileAtomically(directory + "/model/weights", fmt::format("weights of step {}", step));
      WriteFileAtomically(directory + "/trainer.json", "{}");
    });
  }
  int64_t NewestStep() const {
    const std::optional<Checkpoint> newest = Checkpoints(folder_.path(), 2).Newest();
    return newest ? newest->step : -1;
  }
  std::vector<std::string> Names() const { return ListDirectory(folder_ / "checkpoints"); }

  TestFolder folder_;
};

TEST_F(CheckpointsTest, NewestIsByNumberNotByName) {
  EXPECT_EQ(NewestStep(), -1);
  Write(9, 5);
  Write(10, 5);
  EXPECT_EQ(NewestStep(), 10);
  EXPECT_EQ(ReadFile(Checkpoints(folder_.path(), 2).Newest()->path + "/model/weights"), "weights of step 10");
}

TEST_F(CheckpointsTest, KeepsTheNewest) {
  for (int64_t step : {8, 9, 10, 11}) Write(step, 2);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-10", "step-11"}));
}

TEST_F(CheckpointsTest, PassesOverDamagedOnes) {
  Write(5);
  const Checkpoint damaged = Write(6);
  WriteFileAtomically(damaged.path + "/model/weights", "short");
  EXPECT_EQ(NewestStep(), 5);
  RemoveTree(damaged.path + "/model");
  EXPECT_EQ(NewestStep(), 5);
  Checkpoints(folder_.path(), 2).RemoveAfter(5);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-5"}));
  MakeDirectories(folder_ / "checkpoints/step-7");  // no manifest
  EXPECT_EQ(NewestStep(), 5);
}

TEST_F(CheckpointsTest, AFailedWriteLeavesWhatWasThere) {
  Write(5);
  const auto fail = [&] {
    Checkpoints(folder_.path(), 1).Write(6, [](const std::string& directory) {
      WriteFileAtomically(directory + "/trainer.json", "{}");
      throw UserError(directory, "disk full");
    });
  };
  EXPECT_NE(UserErrorOf(fail), "");
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-5"}));
  EXPECT_EQ(NewestStep(), 5);
}

TEST_F(CheckpointsTest, UnfinishedOnesAreNoCheckpoints) {
  Write(5);
  MakeDirectories(folder_ / "checkpoints/.unfinished-6");
  EXPECT_EQ(NewestStep(), 5);
  Checkpoints(folder_.path(), 2).RemoveUnfinished();
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-5"}));
}

ino_t InodeOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_ino;
}

TEST_F(CheckpointsTest, PublishingReplacesFilesInPlace) {
  const std::string model = folder_ / "model";
  PublishFolder(Write(1).path + "/model", model);
  EXPECT_EQ(ReadFile(model + "/weights"), "weights of step 1");
  const ino_t folder_before = InodeOf(model);
  const std::string second = Write(2).path + "/model";
  PublishFolder(second, model);
  PublishFolder(second, model);  // again, onto itself
  EXPECT_EQ(ReadFile(model + "/weights"), "weights of step 2");
  EXPECT_EQ(InodeOf(model), folder_before) << "the folder was not there for a moment";
  EXPECT_EQ(ListDirectory(model), (std::vector<std::string>{"weights"}));
  // A later checkpoint is another file: the published one does not change with it.
  Write(3);
  EXPECT_EQ(ReadFile(model + "/weights"), "weights of step 2");
}

}  // namespace
}  // namespace taipan
