#include "train/checkpoints.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "base/test_folder.h"

namespace taipan {
namespace {

class CheckpointsTest : public testing::Test {
 protected:
  SavedStep Write(int64_t step, int64_t keep = 2, int64_t keep_every = 0) {
    return Checkpoints(folder_.path(), {.newest = keep, .every = keep_every})
        .Write(step, [&](const std::string& directory) {
          MakeDirectories(directory + "/model");
          WriteFileAtomically(directory + "/model/weights", fmt::format("weights of step {}", step));
          WriteFileAtomically(directory + "/trainer.json", "{}");
        });
  }
  CheckpointChoice Choose() const { return Checkpoints(folder_.path(), 2).Choose(); }
  int64_t NewestStep() const {
    const CheckpointChoice choice = Choose();
    return choice.newest ? choice.newest->step : -1;
  }
  std::vector<std::string> Names() const { return ListDirectory(folder_ / "checkpoints"); }

  TestFolder folder_;
};

TEST_F(CheckpointsTest, NewestIsByNumberNotByName) {
  EXPECT_EQ(NewestStep(), -1);
  Write(9, 5);
  Write(10, 5);
  EXPECT_EQ(NewestStep(), 10);
  EXPECT_EQ(ReadFile(Choose().newest->path + "/model/weights"), "weights of step 10");
}

TEST_F(CheckpointsTest, KeepsTheNewest) {
  for (int64_t step : {8, 9, 10, 11}) Write(step, 2);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-10", "step-11"}));
}

// Saves come late where the disk is slow: of each span of 100 steps the first checkpoint stays, whatever its number.
TEST_F(CheckpointsTest, KeepsOneOfEverySoManySteps) {
  for (int64_t step : {50, 99, 100, 150, 200, 250, 307, 350, 360, 399}) Write(step, 2, 100);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-100", "step-200", "step-307", "step-360", "step-399"}));
  EXPECT_EQ(NewestStep(), 399);
}

TEST_F(CheckpointsTest, KeepsWhatARunMayGoBackTo) {
  Checkpoints checkpoints(folder_.path(), {.newest = 1, .rewind = 15, .save_every = 10});
  const auto write = [&](int64_t step) {
    checkpoints.Write(step, [](const std::string& directory) { WriteFileAtomically(directory + "/x", "x"); });
  };
  for (int64_t step : {10, 20, 30, 40}) write(step);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-20", "step-30", "step-40"}));
  write(42);  // of a signal
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-20", "step-30", "step-40", "step-42"}));
  EXPECT_EQ(checkpoints.RewindTarget(45)->step, 40);
  EXPECT_EQ(checkpoints.RewindTarget(39)->step, 30);
  EXPECT_FALSE(checkpoints.RewindTarget(9));
  checkpoints.RemoveAfter(30);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-20", "step-30"}));
}

TEST_F(CheckpointsTest, PassesOverDamagedOnesAndSaysWhy) {
  Write(5);
  const SavedStep damaged = Write(6);
  WriteFileAtomically(damaged.path + "/model/weights", "short");
  EXPECT_EQ(NewestStep(), 5);
  ASSERT_EQ(Choose().damaged.size(), 1u);
  EXPECT_EQ(Choose().damaged[0].checkpoint.step, 6);
  EXPECT_EQ(Choose().damaged[0].why, "model/weights has 5 bytes instead of 17");
  RemoveTree(damaged.path + "/model");
  EXPECT_EQ(Choose().damaged[0].why, "model/weights is missing");
  MakeDirectories(folder_ / "checkpoints/step-7");
  EXPECT_EQ(NewestStep(), 5);
  ASSERT_EQ(Choose().damaged.size(), 2u);
  EXPECT_EQ(Choose().damaged[0].why, "files.json is missing");
}

TEST_F(CheckpointsTest, FlippedBitsInAnyFileAreNoticed) {
  const SavedStep written = Write(5);
  for (const char* name : {"/model/weights", "/trainer.json", "/files.json"}) {
    const std::string path = written.path + name, good = ReadFile(path);
    ASSERT_EQ(NewestStep(), 5);
    for (size_t bit = 0; bit < 8 * good.size(); bit += 11) {  // every position within a byte
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      std::ofstream(path, std::ios::binary) << bad;
      EXPECT_NE(DamageOf(written.path), "") << name << " bit " << bit;
    }
    std::ofstream(path, std::ios::binary) << good;
  }
  EXPECT_EQ(DamageOf(written.path), "");
  std::ofstream(written.path + "/model/weights") << "weights of step 6";
  EXPECT_EQ(DamageOf(written.path).find("the content of model/weights is not what was written (checksum "), 0u)
      << DamageOf(written.path);
}

// What versions before checksums wrote: sizes alone.
TEST_F(CheckpointsTest, OldManifestsAreGoodForWhatTheySay) {
  const SavedStep written = Write(5);
  WriteFileAtomically(written.path + "/files.json", R"({"model/weights": 17, "trainer.json": 2})");
  EXPECT_EQ(DamageOf(written.path), "");
  WriteFileAtomically(written.path + "/files.json", R"({"model/weights": 18, "trainer.json": 2})");
  EXPECT_EQ(DamageOf(written.path), "model/weights has 17 bytes instead of 18");
  for (const char* bad : {"{}", "[]", "", R"({"model/weights": "17"})", R"({"files": {}})", R"({"files": 1})"}) {
    WriteFileAtomically(written.path + "/files.json", bad);
    EXPECT_NE(DamageOf(written.path), "") << bad;
  }
}

TEST_F(CheckpointsTest, DamagedOnesAreSetAsideNotRemoved) {
  Checkpoints checkpoints(folder_.path(), 1);
  EXPECT_EQ(checkpoints.SetAside(Write(6)), folder_ / "checkpoints/damaged-step-6");
  EXPECT_EQ(checkpoints.SetAside(Write(6)), folder_ / "checkpoints/damaged-step-6-2");
  EXPECT_EQ(NewestStep(), -1);
  EXPECT_FALSE(checkpoints.Any());
  Write(7, 1);
  Write(8, 1);
  EXPECT_EQ(Names(), (std::vector<std::string>{"damaged-step-6", "damaged-step-6-2", "step-8"}));
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
  // Nor do the two share bytes: an editor that writes in place spares the checkpoint.
  std::ofstream(model + "/weights") << "edited";
  EXPECT_EQ(ReadFile(second + "/weights"), "weights of step 2");
  EXPECT_EQ(DamageOf(folder_ / "checkpoints/step-2"), "");
  PublishFolder(second, model);
  // A later checkpoint is another file: the published one does not change with it.
  Write(3);
  EXPECT_EQ(ReadFile(model + "/weights"), "weights of step 2");
}

}  // namespace
}  // namespace taipan
