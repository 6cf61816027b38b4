// Sequences that lie on several ranks, and states of rows that go on from step to step on several ranks.

#include "train/sequence_ranks.h"

#include <gtest/gtest.h>

#include "formats/safetensors.h"
#include "train/test_ranks.h"

namespace taipan {
namespace {

ModelConfig ConfigOf(LayerKind kind) {
  ModelConfig config = TestConfig(256);
  config.layer_pattern = {LayerKind::kMamba2, kind, LayerKind::kMamba2, kind};
  return config;
}

class SequenceRanksTest : public RanksTest {
 protected:
  RunRequest Parts(int64_t of_sequence, const std::string& run) const {
    RunRequest request = Request(run);
    request.settings.learning_rate = 2e-3;
    request.settings.valid_every = 0;
    request.settings.sequence_ranks = of_sequence;
    request.settings.micro_batch_size = 1;
    return request;
  }
};

TEST_F(SequenceRanksTest, LossesAreThoseOfOneRank) {
  const auto run = [&](LayerKind kind, int n, int64_t of_sequence) {
    const std::string name = fmt::format("{}-{}-{}", RowOf(kind).name, n, of_sequence);
    RunRequest request = Parts(of_sequence, name);
    request.config = ConfigOf(kind);
    request.settings.steps = 20;
    Train(n, request);
    return name;
  };
  const std::string one = run(LayerKind::kSelectiveAttention, 1, 1);
  EXPECT_EQ(Lines(one).size(), 21u);
  ExpectNear(run(LayerKind::kSelectiveAttention, 3, 3), one, 1e-5);  // a window of 16 tokens reaches over 8 and 8
  ExpectNear(run(LayerKind::kSelectiveAttention, 4, 2), one, 1e-5);
  ExpectNear(run(LayerKind::kSlidingAttention, 2, 2), run(LayerKind::kSlidingAttention, 1, 1), 1e-5);
}

TEST_F(SequenceRanksTest, WithDocumentsThresholdsSegmentsAndLargerMicroBatchesToo) {
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += fmt::format("{{\"text\": \"number {} {}\"}}\n", i, std::string(i % 40, 'x'));
  WriteFileAtomically(folder_ / "texts.jsonl", lines);
  for (const int64_t parts : {1, 2, 4}) {
    RunRequest request = Parts(parts, fmt::format("{}", parts));
    request.settings.data = {folder_ / "texts.jsonl"};
    request.settings.packing = DocumentPacking::kDocuments;
    request.settings.selection = "threshold";
    request.settings.segment = 5;
    request.settings.micro_batch_size = 3;
    request.settings.ema = 0.9;
    Train(static_cast<int>(parts), request);
    ExpectNear(fmt::format("{}", parts), "1", 1e-5);
  }
}

// Rows of two tokens on four ranks: some have none.
TEST_F(SequenceRanksTest, RanksWithoutTokensTakePart) {
  for (const int64_t parts : {1, 4}) {
    RunRequest request = Parts(parts, fmt::format("{}", parts));
    request.settings.context = 2;
    request.settings.selection = "threshold";
    Train(static_cast<int>(parts), request);
    ExpectNear(fmt::format("{}", parts), "1", 1e-5);
  }
}

TEST_F(SequenceRanksTest, CheckpointsGoOnOtherwiseSharedOut) {
  RunRequest straight = Parts(2, "straight");
  Train(2, straight);
  for (const auto& [ranks, parts] : {std::pair{1, 1}, {2, 1}, {2, 2}}) {
    const std::string run = fmt::format("{}-{}", ranks, parts);
    RunRequest request = Parts(2, run);
    const RunHooks hooks = At(request, 6, [] { throw UserError("stop", "here"); });
    EXPECT_EQ(UserErrorOf([&] { Train(2, request, hooks); }), "stop: here");
    RunRequest rest = Parts(parts, run);
    rest.resume = true;
    Train(ranks, rest);
    ExpectNear(run, "straight", ranks == 2 && parts == 2 ? 0 : 1e-4);
  }
}

TEST_F(SequenceRanksTest, WhatCannotLieOnSeveralRanksIsRefused) {
  const auto error = [&](int n, const RunRequest& request) { return UserErrorOf([&] { Train(n, request); }); };
  EXPECT_EQ(error(4, Parts(3, "run")),
            "--sequence-ranks: the ranks cannot be shared out evenly over sequences, expected a divisor of their "
            "number, 4, found 3");
  EXPECT_EQ(error(1, Parts(2, "run")),
            "--sequence-ranks: the ranks cannot be shared out evenly over sequences, expected a divisor of their "
            "number, 1, found 2 (start with mpirun, or with --sequence-ranks 1)");
  RunRequest request = Parts(2, "run");
  request.config = ConfigOf(LayerKind::kAttention);
  EXPECT_EQ(error(2, request),
            "--sequence-ranks: full attention would need the keys of all ranks before a rank's own, expected a model "
            "of Mamba-2, selective or sliding-window attention, found 2 (share out rows instead, with "
            "--sequence-ranks 1)");
  request = Parts(2, "run");
  request.settings.state = StateStart::kRandom;
  EXPECT_EQ(error(2, request), "--sequence-ranks: not together with --state, expected one of them, found both");
  request = Parts(2, "run");
  request.settings.batch_size = 3;
  EXPECT_EQ(error(4, request),
            "--batch-size: its sequences cannot be shared out evenly, expected a multiple of 2: 4 ranks, 2 for a "
            "sequence, found 3");
  EXPECT_FALSE(PathExists(folder_ / "run"));
}

TEST(PackedStates, ComeBackBitForBit) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    LanguageModel model = TestModel();
    model.SetDType(dtype);
    for (const int64_t position : {5, 40}) {
      SequenceState state;
      Batch batch;
      batch.tokens = TestTokens(position);
      batch.segments.resize(1);
      batch.segments[0].length = position;
      batch.segments[0].state_out = &state;
      ForwardContext context;
      model.Forward(batch, {}, /*keep=*/false, context);
      const auto bytes = static_cast<size_t>(StateBytes(model, position));
      std::vector<std::byte> packed(bytes), again(bytes);
      PackState(model, state, packed.data());
      const SequenceState back = UnpackState(model, position, packed.data());
      PackState(model, back, again.data());
      EXPECT_EQ(packed, again);
      EXPECT_EQ(back.position, position);
      EXPECT_EQ(back.layers[2].kv.first(), std::max<int64_t>(position - 16, 0));
      EXPECT_EQ(back.layers[2].kv.end(), position);
    }
  }
}

class CarriedOnRanks : public RanksTest {
 protected:
  RunRequest Carried(StateStart state, const std::string& run) const {
    RunRequest request = Request(run);
    request.settings.learning_rate = 2e-3;
    request.settings.state = state;
    request.settings.state_windows = 7;
    request.settings.valid_every = 0;
    request.settings.steps = 12;
    return request;
  }
};

TEST_F(CarriedOnRanks, LossesAreThoseOfOneRank) {
  for (const StateStart state : {StateStart::kCarry, StateStart::kRandom}) {
    for (const int n : {1, 4}) {
      Train(n, Carried(state, fmt::format("{}{}", NameIn(state), n)));
      ExpectNear(fmt::format("{}{}", NameIn(state), n), NameIn(state) + "1", 1e-5);
    }
  }
  // The noise is as large as the final states of all rows.
  const auto power = [&](int n) {
    const SafetensorsFile file(folder_ / fmt::format("random{}/checkpoints/step-12/states.safetensors", n));
    return file.ReadF32("power.layers.0", {4});
  };
  const Tensor one = power(1), four = power(4);
  for (int64_t h = 0; h < 4; ++h) EXPECT_NEAR(four.F32()[h], one.F32()[h], 1e-4f * one.F32()[h]);
}

TEST_F(CarriedOnRanks, CheckpointsDoNotDependOnTheNumberOfRanks) {
  for (const StateStart state : {StateStart::kCarry, StateStart::kRandom}) {
    Train(2, Carried(state, NameIn(state) + "straight"));
    for (const int n : {1, 2, 4}) {
      if (n == 4 && state == StateStart::kRandom) continue;
      const std::string run = fmt::format("{}{}", NameIn(state), n);
      RunRequest request = Carried(state, run);
      const RunHooks hooks = At(request, 8, [] { throw UserError("stop", "here"); });
      EXPECT_EQ(UserErrorOf([&] { Train(2, request, hooks); }), "stop: here");
      RunRequest rest = Carried(state, run);
      rest.resume = true;
      Train(n, rest);
      ExpectNear(run, NameIn(state) + "straight", n == 2 ? 0 : 1e-4);
    }
    EXPECT_EQ(ReadFile(folder_ / NameIn(state) + "2/checkpoints/step-12/states.safetensors"),
              ReadFile(folder_ / NameIn(state) + "straight/checkpoints/step-12/states.safetensors"));
  }
}

}  // namespace
}  // namespace taipan
