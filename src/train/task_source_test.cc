#include "train/task_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "train/test_run.h"

namespace taipan {
namespace {

using testing::HasSubstr;

Batch RowsOf(const std::string& task, int64_t step, int64_t first, int64_t rows, const Tokenizer* tokenizer = nullptr) {
  Batch batch;
  MakeTask(task, 128, 4, 256, tokenizer)->Fill(step, first, rows, batch);
  return batch;
}

TEST(TaskSource, RowsFollowFromTheirNumber) {
  const ByteTokenizer bytes;
  for (const std::string task :
       {"mqar:pairs=8", "mqar:pairs=6,contexts=3,length=100", "copy:length=40", "passkey:digits=3"}) {
    const Batch all = RowsOf(task, 3, 0, 4, &bytes);
    ASSERT_EQ(all.segments.size(), 4u);
    for (int64_t row = 0; row < 4; ++row) {
      const Segment& s = all.segments[static_cast<size_t>(row)];
      const Batch one = RowsOf(task, 3, row, 1, &bytes);
      EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), all.tokens.begin() + s.begin)) << task;
      EXPECT_TRUE(std::equal(one.targets.begin(), one.targets.end(), all.targets.begin() + s.begin)) << task;
      EXPECT_EQ(one.size(), s.length);
    }
    EXPECT_NE(RowsOf(task, 4, 0, 1, &bytes).tokens, RowsOf(task, 3, 0, 1, &bytes).tokens) << task;
    EXPECT_NE(RowsOf(task + ",seed=1", 3, 0, 1, &bytes).tokens, RowsOf(task, 3, 0, 1, &bytes).tokens) << task;
  }
}

TEST(TaskSource, CopyAsksForWhatStoodBefore) {
  const Batch batch = RowsOf("copy:length=12,vocab=50", 0, 0, 1);
  ASSERT_EQ(batch.size(), 12);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(batch.targets[i], -1);
    EXPECT_EQ(batch.targets[6 + i], batch.tokens[i]);
    EXPECT_GE(batch.tokens[i], 1);
    EXPECT_LT(batch.tokens[i], 50);
    EXPECT_EQ(batch.tokens[6 + i], i > 0 ? batch.tokens[i - 1] : 0);
  }
}

TEST(TaskSource, PasskeyHidesANumberInAText) {
  const ByteTokenizer bytes;
  Batch batch;
  MakeTask("passkey:length=300,digits=4", 512, 1, 256, &bytes)->Fill(9, 0, 1, batch);
  ASSERT_EQ(batch.size(), 300);
  std::string text = bytes.Decode(batch.tokens), answer;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] < 0) continue;
    answer += static_cast<char>(batch.targets[i]);
    const bool last = i + 1 == batch.tokens.size();
    EXPECT_EQ(batch.targets[i], last ? batch.targets[i] : batch.tokens[i + 1]);
  }
  EXPECT_EQ(answer.size(), 8u);  // a space and a digit, four times
  EXPECT_THAT(text, HasSubstr(" The pass key is" + answer + ". Remember it."));
  EXPECT_TRUE(text.starts_with("There is a pass key hidden in this text. The grass is green."));
  EXPECT_THAT(text, HasSubstr(" What is the pass key? The pass key is"));
}

TEST(TaskSource, NamesAndNumbers) {
  EXPECT_TRUE(IsTask("mqar:"));
  EXPECT_TRUE(IsTask("copy:length=8,seed=3"));
  for (const char* other : {"mqar", "mqar:pairs", "mqar:pairs=x", "mqar:pairs=3=0.5", "other:length=3", "data/a.txt"}) {
    EXPECT_FALSE(IsTask(other)) << other;
  }
  const auto error = [](const std::string& task) { return UserErrorOf([&] { RowsOf(task, 0, 0, 1); }); };
  EXPECT_THAT(error("mqar:pears=3"),
              HasSubstr("mqar:pears=3: \"pears\" is nothing that mqar can be told, expected length, "
                        "pairs, vocab, contexts, seed, numbers from 0, found pears=3"));
  EXPECT_THAT(error("mqar:pairs=60"), HasSubstr("the numbers of the task do not go together"));
  EXPECT_THAT(error("mqar:vocab=999"), HasSubstr("vocab from 4 to 256"));
  EXPECT_THAT(error("copy:length=200"), HasSubstr("a length of at most --context 128"));
  EXPECT_THAT(error("passkey:"), HasSubstr("passkey:: needs a tokenizer"));
}

class TaskRunTest : public RunFixture {};

TEST_F(TaskRunTest, TrainsResumesAndMixes) {
  for (const std::string data : {"copy:vocab=20", "mix"}) {
    const auto request = [&](const std::string& run) {
      RunRequest r = Request(run);
      r.settings.data = {data};
      if (data == "mix") r.settings.data = {"copy:vocab=20=1", data_ + "=2"};
      return r;
    };
    ASSERT_EQ(RunTraining(request("straight"), {}), RunEnd::kFinished);
    RunRequest run = request("run");
    const RunHooks hooks = At(run, 3, [] { raise(SIGINT); });
    ASSERT_EQ(RunTraining(run, hooks), RunEnd::kInterrupted);
    RunRequest other = Resume("run");
    other.settings.data = {data == "mix" ? data_ : "copy:vocab=21"};
    EXPECT_THAT(ErrorOf(other), HasSubstr("trained on other data: file 1"));
    run.resume = true;
    ASSERT_EQ(RunTraining(run, {}), RunEnd::kFinished);
    ExpectLikeStraightRun("run");
    RemoveTree(folder_ / "run");
    RemoveTree(folder_ / "straight");
  }
  RunRequest both = Request("x");
  both.settings.data = {data_, "copy:"};
  EXPECT_THAT(ErrorOf(both), HasSubstr("--data: a task beside other data needs a weight"));
}

}  // namespace
}  // namespace taipan
