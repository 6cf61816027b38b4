#include "train/stages.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "train/test_model.h"

namespace taipan {
namespace {

TEST(Stages, ChangeAfterTheirLastSteps) {
  const Stages s = ParseStages("--x", "4:2,8:5", 16);
  int64_t sum = 0, step = 0;
  for (const int64_t expected : {4, 4, 8, 8, 8, 16, 16}) {
    ++step;
    EXPECT_EQ(s.At(step), expected) << step;
    EXPECT_EQ(s.SumBefore(step), sum) << step;
    sum += expected;
  }
  const Stages none = ParseStages("--x", "", 3);
  EXPECT_EQ(none.At(1), 3);
  EXPECT_EQ(none.SumBefore(1001), 3000);
}

TEST(Stages, RefusesOthers) {
  for (const char* text :
       {"4", "4:", ":2", "0:2", "-1:2", "4:2,8:2", "4:5,8:2", "4:2;8:5", "4:2 ", "a:1", "4:0", ","}) {
    EXPECT_EQ(UserErrorOf([&] { ParseStages("--x", text, 1); }).find("--x: "), 0u) << text;
  }
}

// A row of a shorter context is cut into documents; which tokens it has is the same.
TEST(Stages, AShorterContextCutsTheSameRows) {
  const Corpus corpus(TestTokens(400), 97, "test tokens");
  const WindowLoader loader(corpus, 24, 4, WindowOrder::kShuffled, 3);
  const CorpusSource plain(loader), cut(loader, ParseStages("--x", "8:2", 24), {});
  Batch a, b;
  for (const int64_t step : {0, 1, 2}) {
    plain.Fill(step, 1, 2, a);
    cut.Fill(step, 1, 2, b);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.targets, b.targets);
    ASSERT_EQ(b.segments.size(), step < 2 ? 6u : 2u);
    for (size_t i = 0; i < b.segments.size(); ++i) {
      const Segment& s = b.segments[i];
      const int64_t length = step < 2 ? 8 : 24;
      EXPECT_EQ(s.begin, static_cast<int64_t>(i) * length);
      EXPECT_EQ(s.length, length);
      EXPECT_EQ(s.row, 1 + s.begin / 24);
      EXPECT_EQ(s.row_begin, s.begin % 24);
      EXPECT_EQ(s.state_in, nullptr);
    }
  }
}

// Every window of an epoch is read once, in the order that a constant batch has.
TEST(Stages, AChangingBatchKeepsTheOrderOfTheData) {
  const Corpus corpus(TestTokens(24 * 30 + 1), 97, "test tokens");
  const CorpusSource constant(WindowLoader(corpus, 24, 1, WindowOrder::kShuffled, 3));
  const CorpusSource changing(WindowLoader(corpus, 24, 4, WindowOrder::kShuffled, 3), {},
                              ParseStages("--x", "1:2,3:4", 4));
  int64_t row = 0;
  for (int64_t step = 0; step < 7; ++step) {
    const int64_t rows = step < 2 ? 1 : step < 4 ? 3 : 4;
    Batch batch, one;
    changing.Fill(step, 0, rows, batch);
    for (int64_t r = 0; r < rows; ++r) {
      constant.Fill(row++, 0, 1, one);
      EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), batch.tokens.begin() + 24 * r)) << step << " " << r;
    }
  }
}

TEST(Stages, TrainWithTheTokensTheyName) {
  TrainSettings settings = TestSettings();
  settings.context_schedule = "8:2,12:3";
  settings.batch_size_schedule = "1:2,3:3";
  settings.micro_batch_size = 2;
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  const auto make = [&] {
    const WindowLoader loader(corpus, settings.context, settings.batch_size, WindowOrder::kShuffled, 3);
    return std::make_unique<ModelTrainer>(TestModel(), settings, MakeCorpusSource(loader, settings));
  };
  const auto straight = make();
  std::vector<int64_t> tokens;
  const TestFolder folder;
  for (int i = 0; i < 5; ++i) {
    tokens.push_back(straight->Step().tokens);
    if (i == 2) straight->Save(folder.path());
  }
  EXPECT_EQ(tokens, (std::vector<int64_t>{24, 48, 48 + 72, 120 + 96, 120 + 192}));
  const auto resumed = make();
  resumed->Load(folder.path());
  resumed->Step(), resumed->Step();
  EXPECT_EQ(Weights(*straight), Weights(*resumed));

  settings.context_schedule = "7:2";
  EXPECT_EQ(UserErrorOf(make),
            "--context-schedule: a context does not divide --context, expected a divisor of 24, found 7");
}

}  // namespace
}  // namespace taipan
