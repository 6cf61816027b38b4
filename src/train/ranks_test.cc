// Several ranks, threads of this process, train one model: as one rank does.

#include "train/ranks.h"

#include <gtest/gtest.h>

#include <atomic>

#include "train/scale_plan.h"
#include "train/step_gradients.h"
#include "train/test_ranks.h"

namespace taipan {
namespace {

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

TEST_F(RanksTest, MomentsInBf16AreGatheredAndScatteredBitForBit) {
  const auto request = [&](const std::string& run, bool resume) {
    RunRequest r = resume ? Resume(run) : Request(run);
    r.settings.moments = MomentType::kBF16;
    r.settings.learning_rate = 2e-3;
    return r;
  };
  Train(4, request("straight", false));
  RunRequest stopped = request("run", false);
  stopped.settings.sample_every = 6;
  RunHooks hooks;
  hooks.sample = [](const LanguageModel&, const Tokenizer*, int64_t) -> std::string {
    throw UserError("stop", "here");
  };
  EXPECT_EQ(UserErrorOf([&] { Train(4, stopped, hooks); }), "stop: here");
  Train(4, request("run", true));
  for (const char* file : {"/model/model.safetensors", "/checkpoints/step-10/optimizer.safetensors"}) {
    EXPECT_EQ(ReadFile(folder_ / "run" + file), ReadFile(folder_ / "straight" + file)) << file;
  }
  Train(1, request("one", false));
  ExpectNear("straight", "one", 1e-3);
}

// Bytes of one step of four rows, over all ranks.
double SentInAStep(int64_t ranks, int64_t sequence_ranks, int64_t context) {
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  const CorpusSource source(WindowLoader(corpus, context, /*batch_size=*/4, WindowOrder::kShuffled, 3));
  std::atomic<int64_t> sent = 0;
  AsRanks(static_cast<int>(ranks), [&](Group& group) {
    LanguageModel model = TestModel();
    TrainingStep step(model, "", OptimizerKind::kAdamW, group);
    const int64_t rows = 4 * sequence_ranks / ranks;
    Batch batch;
    source.Fill(0, group.rank() / sequence_ranks * rows, rows, batch);
    StepOptions options;
    options.rows = 4;
    options.sequence_ranks = sequence_ranks;
    step.Run(model, {&batch, 1}, options);
    sent += group.bytes_sent();
  });
  return static_cast<double>(sent);
}

TEST_F(RanksTest, SendWhatThePlanSays) {
  const double planned = SentBytes(SumParameters(TestConfig()), 4);
  EXPECT_NEAR(SentInAStep(4, 1, 24) / 4, planned, 0.05 * planned);
  const ScaleRequest parts{.ranks = 2, .context = 40, .batch = 4, .dtype = DType::kF32, .sequence_ranks = 2};
  const double states = SentStateBytes(TestConfig(), parts);  // rank 0 sends states, rank 1 gradients
  EXPECT_GT(states, 0.2 * planned);
  EXPECT_NEAR(SentInAStep(2, 2, 40) - SentInAStep(2, 1, 40), states, 0.01 * states);
}

// A backward of one row of three on each rank, with what it is told of the gradients that are done.
class GradientsOfRanks : public testing::Test {
 protected:
  using Act = std::function<void(StepGradients&, const std::function<void(ModelParams&, const GradientsDone&)>&)>;

  // What `act` leaves as the own elements of every rank, in the order of file and ranks.
  std::vector<float> Sums(const ModelConfig& config, OptimizerKind kind, bool any_thread, const Act& act) {
    std::vector<std::vector<float>> pieces;
    AsRanks(3, [&](Group& group) {
      static_cast<ThreadGroup&>(group).AllowAnyThread(any_thread);
      LanguageModel model = TestModel(config);
      Optimizer optimizer(model.params(), kind, group);
      const WeightGroups trained;
      StepGradients gradients(model, optimizer.shards(), trained);
      ForwardContext context;
      act(gradients, [&](ModelParams& to, const GradientsDone& done) {
        Batch batch;
        CorpusSource(WindowLoader(corpus_, 24, 3, WindowOrder::kShuffled, 3)).Fill(0, group.rank(), 1, batch);
        model.Forward(batch, {}, /*keep=*/true, context);
        model.Backward(context, TotalsOf({&batch, 1}), {}, {}, to, {}, {}, done);
      });
      gradients.Finish();
      for (size_t i = 0; i < gradients.own().size(); ++i) {
        const auto [begin, end] = optimizer.shards().Own(i);
        const std::vector<float> all = GatherFloats(group, {gradients.own()[i], static_cast<size_t>(end - begin)});
        if (group.leads()) pieces.push_back(all);
      }
    });
    std::vector<float> all;
    for (const std::vector<float>& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
    return all;
  }

  const Corpus corpus_{TestTokens(2000), 97, "test tokens"};
};

TEST_F(GradientsOfRanks, KeptInPartsOrWholeSentMeanwhileOrBehindAreTheSameBits) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    for (const bool tied : {false, true}) {
      ModelConfig config = TestConfig();
      config.tie_word_embeddings = tied;
      const auto backward = [&](bool once, int64_t times) {
        return Sums(config, kind, /*any_thread=*/once, [=](StepGradients& gradients, const auto& run) {
          for (int64_t i = 0; i < times; ++i) run(gradients.Begin(once), gradients.Done());
        });
      };
      const std::vector<float> whole = Sums(config, kind, true, [](StepGradients& gradients, const auto& run) {
        run(gradients.Begin(/*once=*/false), nullptr);
        gradients.SumAll();
      });
      EXPECT_EQ(static_cast<double>(whole.size()), SumParameters(config));
      EXPECT_GT(std::count_if(whole.begin(), whole.end(), [](float g) { return g != 0; }),
                static_cast<int64_t>(whole.size()) / 2);
      EXPECT_EQ(backward(/*once=*/false, 1), whole);
      EXPECT_EQ(backward(/*once=*/true, 1), whole);
    }
  }
}

TEST_F(GradientsOfRanks, AStepThatWasNotTakenLeavesNothing) {
  const auto steps = [&](std::vector<bool> once) {
    return Sums(TestConfig(), OptimizerKind::kAdamW, true, [=](StepGradients& gradients, const auto& run) {
      for (const bool o : once) {
        run(gradients.Begin(o), gradients.Done());
        gradients.Finish();
      }
    });
  };
  const std::vector<float> first = steps({true});
  EXPECT_EQ(steps({true, true}), first);
  EXPECT_EQ(steps({true, false, false, true}), first);
}

TEST_F(GradientsOfRanks, ComeFromTheHeadDownToTheEmbedding) {
  std::vector<int64_t> parts;
  LanguageModel model = TestModel();
  ModelParams gradients = model.NewGradients();
  ForwardContext context;
  Batch batch;
  CorpusSource(WindowLoader(corpus_, 24, 3, WindowOrder::kShuffled, 3)).Fill(0, 0, 1, batch);
  model.Forward(batch, {}, /*keep=*/true, context);
  const auto sum = [](const Weight& w) { return SquaredNorm(w.F32(), w.f32.size()); };
  model.Backward(context, TotalsOf({&batch, 1}), {}, {}, gradients, {}, {}, [&](int64_t part) {
    parts.push_back(part);
    EXPECT_GT(sum(gradients.norm), 0);
    EXPECT_EQ(sum(gradients.embedding) > 0, part == -1 || gradients.tied());
    for (int64_t i = 0; i < 3; ++i) {
      double squares = 0;
      for (const auto& branch : gradients.layers[static_cast<size_t>(i)]) {
        branch->ForEach([&](Weight& w) { squares += sum(w); });
      }
      EXPECT_EQ(squares > 0, i >= part) << i << " after " << part;
    }
  });
  EXPECT_EQ(parts, (std::vector<int64_t>{3, 2, 1, 0, -1}));
}

TEST_F(GradientsOfRanks, OfARankThatFailsIsToldWhereOthersWaitForThem) {
  std::atomic<int> turn = 0;
  const std::string error = UserErrorOf([&] {
    Sums(TestConfig(), OptimizerKind::kAdamW, true, [&](StepGradients& gradients, const auto& run) {
      if (turn++ == 0) throw UserError("one", "gives up");
      const std::string told = UserErrorOf([&] {
        run(gradients.Begin(true), gradients.Done());
        gradients.Finish();
      });
      EXPECT_NE(told.find("is gone"), std::string::npos) << told;
    });
  });
  EXPECT_EQ(error, "one: gives up");
}

TEST_F(GradientsOfRanks, TakeThePlannedMemory) {
  LanguageModel model = TestModel();
  const double parameters = SumParameters(TestConfig());
  const TrainingMemory plan = PlanTraining(TestConfig(), {.ranks = 3, .one_backward = true});
  const auto once = static_cast<double>(StepGradients::ElementsAtOnce(model.params()));
  EXPECT_NEAR(static_cast<double>(plan.gradients), 4 * (parameters / 3 + once), 0.01 * 4 * parameters);
  EXPECT_LT(once, 0.6 * parameters);
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
  std::string errors[2];
  EXPECT_THROW(AsRanks(2,
                       [&](Group& group) {
                         try {
                           TrainAs(group, request);
                         } catch (const UserError& error) {
                           errors[group.rank()] = error.what();
                           throw;
                         }
                       }),
               UserError);
  EXPECT_NE(errors[0].find("training diverged: loss"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[1], "");
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

// Text that no rank can tell from its rows alone: a passage of other letters, on which the loss jumps.
class RanksWithSpikes : public RanksTest {
 protected:
  RunRequest Spiky(const std::string& run, int64_t rewind) const {
    RunRequest request = Request(run);
    TrainSettings& s = request.settings;
    s.order = WindowOrder::kSequential;
    s.batch_size = 2;
    s.steps = 60;
    s.learning_rate = 3e-3;
    s.valid_every = 0;
    s.save_every = 10;
    s.keep = 9;
    s.spike_guard = 6;
    s.rewind = rewind;
    s.rewind_after = 3;
    return request;
  }
  void WriteData() const {  // a step reads 48 bytes
    std::string text;
    while (text.size() < 48 * 200) text += "the same line over and over again.\n";
    for (size_t i = 0; i < 48 * 3; ++i) text[48 * 40 + i] = static_cast<char>(130 + i * i % 97);
    WriteFileAtomically(data_, text);
  }
};

TEST_F(RanksWithSpikes, AllSkipWhatTheFirstSkipsAndGoBackTogether) {
  WriteData();
  for (const int64_t rewind : {0, 5}) {
    for (const int n : {1, 2}) Train(n, Spiky(fmt::format("{}-{}", n, rewind), rewind));
    ExpectNear(fmt::format("2-{}", rewind), fmt::format("1-{}", rewind), 1e-4);
    const auto state = [&](int n) {
      auto json = nlohmann::json::parse(ReadFile(folder_ / fmt::format("{}-{}", n, rewind) + "/trainer.json"));
      return fmt::format("rewinds {}, skipped {}, ahead {}", json.value("rewinds", 0), json.value("skipped_steps", 0),
                         json.value("data_ahead", 0));
    };
    EXPECT_EQ(state(2), rewind == 0 ? "rewinds 0, skipped 3, ahead 0" : "rewinds 1, skipped 3, ahead 13");
    EXPECT_EQ(state(1), state(2));
  }
}

}  // namespace
}  // namespace taipan
