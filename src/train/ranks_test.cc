// Several ranks, threads of this process, train one model: as one rank does.

#include "train/ranks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "dist/test_group.h"
#include "train/run_ranks.h"
#include "train/scale_plan.h"
#include "train/test_run.h"

namespace taipan {
namespace {

class RanksTest : public RunFixture {
 protected:
  // Trains as n ranks.
  void Train(int n, const RunRequest& request, const RunHooks& hooks = {}) const {
    AsRanks(n, [&](Group& group) {
      Ranks ranks(group);
      if (!group.leads()) return FollowTraining(ranks);
      RunHooks own = hooks;
      own.ranks = &ranks;
      RunTraining(request, own);
    });
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

TEST_F(RanksTest, LossesAreThoseOfOneRank) {
  for (const int n : {1, 2, 4}) {
    RunRequest request = Request(fmt::format("{}", n));
    request.settings.steps = 50;
    request.settings.valid_every = 25;
    request.settings.learning_rate = 2e-3;
    Train(n, request);
    ExpectNear(fmt::format("{}", n), "1", 1e-5);
  }
  EXPECT_EQ(Lines("4").size(), 50u + 2u);  // steps and validations
}

TEST_F(RanksTest, WithMuonThresholdsAveragesDocumentsAndMicroBatchesToo) {
  WriteFileAtomically(folder_ / "texts.jsonl", [] {
    std::string lines;
    for (int i = 0; i < 60; ++i) lines += fmt::format("{{\"text\": \"number {} {}\"}}\n", i, std::string(i % 40, 'x'));
    return lines;
  }());
  for (const int n : {1, 2, 4}) {
    RunRequest request = Request(fmt::format("{}", n));
    request.settings.data = {folder_ / "texts.jsonl"};
    request.settings.optimizer = OptimizerKind::kMuon;
    request.settings.selection = "threshold";
    request.settings.packing = DocumentPacking::kDocuments;
    request.settings.ema = 0.9;
    request.settings.batch_size = 8;
    request.settings.micro_batch_size = 1;
    request.settings.learning_rate = 2e-3;
    Train(n, request);
    ExpectNear(fmt::format("{}", n), "1", 1e-3);  // Newton-Schulz multiplies what rounding leaves of small directions
  }
}

TEST_F(RanksTest, CheckpointsDoNotDependOnTheNumberOfRanks) {
  for (const OptimizerKind optimizer : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    const auto request = [&](const std::string& run, bool resume) {
      RunRequest r = resume ? Resume(NameIn(optimizer) + run) : Request(NameIn(optimizer) + run);
      r.settings.optimizer = optimizer;
      r.settings.learning_rate = 2e-3;
      r.settings.ema = 0.9;
      return r;
    };
    Train(4, request("straight", false));
    for (const int n : {1, 2, 4}) {
      const std::string run = fmt::format("{}", n);
      RunRequest stopped = request(run, false);
      stopped.settings.sample_every = 6;
      RunHooks hooks;
      hooks.sample = [](const LanguageModel&, const Tokenizer*, int64_t) -> std::string {
        throw UserError("stop", "here");
      };
      EXPECT_EQ(UserErrorOf([&] { Train(4, stopped, hooks); }), "stop: here");
      Train(n, request(run, true));
      ExpectNear(NameIn(optimizer) + run, NameIn(optimizer) + "straight", n == 4 ? 0 : 1e-4);
    }
    for (const char* file : {"/model/model.safetensors", "/checkpoints/step-10/optimizer.safetensors",
                             "/checkpoints/step-10/weights.safetensors"}) {
      EXPECT_EQ(ReadFile(folder_ / NameIn(optimizer) + "4" + file),
                ReadFile(folder_ / NameIn(optimizer) + "straight" + file))
          << file;
    }
  }
}

TEST_F(RanksTest, SendWhatThePlanSays) {
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  const CorpusSource source(WindowLoader(corpus, /*context=*/24, /*batch_size=*/4, WindowOrder::kShuffled, 3));
  std::atomic<int64_t> sent = 0;
  AsRanks(4, [&](Group& group) {
    LanguageModel model = TestModel();
    TrainingStep step(model, "", OptimizerKind::kAdamW, group);
    Batch batch;
    source.Fill(0, group.rank(), 1, batch);
    StepOptions options;
    options.rows = 4;
    step.Run(model, {&batch, 1}, options);
    sent += group.bytes_sent();
  });
  const double planned = SentBytes(SumParameters(TestConfig()), 4);
  EXPECT_NEAR(static_cast<double>(sent) / 4, planned, 0.05 * planned);
}

TEST_F(RanksTest, InBf16TheCopiesFollow) {
  for (const int n : {1, 2}) {
    RunRequest request = Request(fmt::format("{}", n));
    request.settings.dtype = ComputeType::kBF16;
    request.settings.learning_rate = 2e-3;
    Train(n, request);
  }
  ExpectNear("2", "1", 2e-2);
}

TEST_F(RanksTest, WhatCannotBeSharedOutIsRefused) {
  RunRequest request = Request("run");
  EXPECT_EQ(UserErrorOf([&] { Train(3, request); }),
            "--batch-size: its sequences cannot be shared out evenly, expected a multiple of the 3 ranks, found 4");
  request.settings.batch_size_schedule = "2:3";
  EXPECT_NE(UserErrorOf([&] { Train(4, request); }).find("--batch-size-schedule: its sequences cannot be shared out"),
            std::string::npos);
  request = Request("run");
  request.settings.state = StateStart::kCarry;
  request.settings.order = WindowOrder::kSequential;
  EXPECT_NE(UserErrorOf([&] { Train(2, request); }).find("--state: states that go on stay with one rank"),
            std::string::npos);
  EXPECT_FALSE(PathExists(folder_ / "run"));
}

TEST_F(RanksTest, OtherFlagsAreRefusedByName) {
  const std::string error = UserErrorOf([&] {
    AsRanks(2, [&](Group& group) {
      Ranks ranks(group, group.leads() ? R"({"seed": 1, "steps": 5})" : R"({"seed": 1, "steps": 6})");
      if (!group.leads()) return FollowTraining(ranks);
      RunHooks hooks;
      hooks.ranks = &ranks;
      RunTraining(Request("run"), hooks);
    });
  });
  EXPECT_EQ(error, "rank 1: --steps: not what rank 0 was given, expected 5, found 6");
  EXPECT_FALSE(PathExists(folder_ / "run"));
}

TEST_F(RanksTest, AStepThatDivergesEndsAllOfThem) {
  RunRequest request = Request("run");
  request.settings.learning_rate = 1000;
  request.settings.clip_norm = 0;
  request.settings.warmup_steps = 0;
  const std::string error = UserErrorOf([&] { Train(2, request); });
  EXPECT_NE(error.find("training diverged: loss"), std::string::npos) << error;
}

// Gives the rows of another source, but fails from a step on where it is told to.
class FailingSource : public BatchSource {
 public:
  FailingSource(WindowLoader loader, bool fails) : source_(std::move(loader)), fails_(fails) {}
  int64_t batch_size() const override { return source_.batch_size(); }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override {
    if (fails_ && step == 1) throw DataChanged("text.txt", "is not what it was");
    source_.Fill(step, first_row, rows, batch);
  }

 private:
  CorpusSource source_;
  bool fails_;
};

TEST_F(RanksTest, DataThatFailsOnOneRankIsTheFirstOnesErrorAndItStillSaves) {
  const TrainSettings settings = TestSettings();
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  AsRanks(2, [&](Group& group) {
    Ranks ranks(group);
    ModelTrainer trainer(
        TestModel(), settings,
        std::make_shared<FailingSource>(WindowLoader(corpus, settings.context, settings.batch_size, settings.order, 3),
                                        /*fails=*/group.rank() == 1),
        ranks);
    if (!group.leads()) return trainer.Follow();
    trainer.Step();
    EXPECT_THROW(
        {
          try {
            trainer.Step();
          } catch (const DataChanged& error) {
            EXPECT_STREQ(error.what(), "rank 1: text.txt: is not what it was");
            throw;
          }
        },
        DataChanged);
    MakeDirectories(folder_ / "checkpoint");
    trainer.Save(folder_ / "checkpoint");
    EXPECT_EQ(trainer.step(), 1);
  });
  EXPECT_TRUE(PathExists(folder_ / "checkpoint/optimizer.safetensors"));
}

}  // namespace
}  // namespace taipan
