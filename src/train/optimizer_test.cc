#include "train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/test_folder.h"
#include "dist/test_group.h"
#include "formats/safetensors.h"
#include "kernels/muon_reference.h"
#include "train/test_model.h"

namespace taipan {
namespace {

TrainSettings MuonRun() {
  TrainSettings s = TestSettings();
  s.optimizer = OptimizerKind::kMuon;
  return s;
}

// Gradients that look like noise.
void FillGradients(ModelParams& gradients) {
  uint32_t stream = kTestStream;
  gradients.ForEach([&](Weight& w) {
    ++stream;
    for (int64_t i = 0; i < w.f32.size(); ++i) {
      w.F32()[i] = static_cast<float>(RandomNormal({.seed = 9, .stream = stream}, static_cast<uint64_t>(i)));
    }
  });
}

// A step moves every map within a hidden matrix as Muon moves it alone, by its own rate (docs/math/mup.md), and all
// else as AdamW's first step does, each element by the rate.
TEST(MuonOptimizer, MovesTheMapsOfAMatrixEachByItself) {
  constexpr double kLr = 0.01, kWidth = 4;
  LanguageModel model = TestModel(), before = TestModel();
  ModelParams gradients = model.NewGradients(), used = model.NewGradients();
  FillGradients(gradients);
  FillGradients(used);
  Optimizer optimizer(model.params(), OptimizerKind::kMuon);
  optimizer.Step(model.params(), Elements(used), {.lr = kLr, .step = 1}, {}, kWidth);
  EXPECT_EQ(GradientNorm(used), 0);
  const std::vector<float*> old = Elements(before.params()), gradient = Elements(gradients);
  size_t i = 0, parts = 0;
  model.params().ForEach([&](Weight& w) {
    const float *const was = old[i], *const g = gradient[i++];
    if (!IsHiddenMatrix(w.spec)) {
      const double rate = SumsOverWidth(w.spec) ? kLr / kWidth : kLr;
      for (int64_t k = 0; k < w.f32.size(); ++k) EXPECT_NEAR(std::abs(w.F32()[k] - was[k]), rate, 1e-5) << w.spec.name;
      return;
    }
    int64_t row = 0;
    const int64_t cols = w.spec.shape[1];
    for (const auto& [rows, grows] : w.spec.Parts()) {
      const int64_t begin = row * cols, end = (row + rows) * cols;
      reference::Matrix moved(was + begin, was + end), momentum(moved.size());
      reference::Muon(moved, {g + begin, g + end}, momentum, rows, cols,
                      {.lr = kLr / (grows ? std::sqrt(kWidth) : kWidth)});
      double error = 0, update = 0;
      for (int64_t k = begin; k < end; ++k) {
        const double expected = moved[static_cast<size_t>(k - begin)];
        error += std::pow(w.F32()[k] - expected, 2);
        update += std::pow(was[k] - expected, 2);
      }
      EXPECT_LT(std::sqrt(error / update), 0.05) << w.spec.name << " from row " << row;
      row += rows;
      ++parts;
    }
    EXPECT_EQ(row, w.spec.shape[0]);
  });
  EXPECT_EQ(parts, 2u * (5 + 1) + 4 + 3);  // two Mamba-2 blocks; q, k, v, o; the MLP
}

// Without momentum a step forgets the ones before.
TEST(MuonOptimizer, RunsTakeTheirMomentum) {
  const auto moment_after = [](double momentum, int steps) {
    TrainSettings settings = MuonRun();
    settings.momentum = momentum;
    settings.learning_rate = 0;
    settings.min_learning_rate = 0;
    TestTraining training(settings);
    const TestFolder folder;
    for (int i = 0; i < steps; ++i) training.trainer.Step();
    training.trainer.Save(folder.path());
    const SafetensorsFile saved(folder / "optimizer.safetensors");
    return saved.Read("m.model.layers.1.mixer.out_proj.weight");
  };
  const Tensor first = moment_after(0.5, 1), both = moment_after(0.5, 2), second = moment_after(0, 2);
  for (int64_t i = 0; i < both.size(); ++i) {
    EXPECT_NEAR(both.F32()[i], 0.5 * first.F32()[i] + second.F32()[i], 1e-6 * std::abs(both.F32()[i]) + 1e-9);
  }
}

TEST(MuonOptimizer, SaveAndLoadContinueBitForBitOnAnyNumberOfThreads) {
  for (const ComputeType dtype : {ComputeType::kF32, ComputeType::kBF16}) {
    TrainSettings settings = MuonRun();
    settings.dtype = dtype;
    const TestFolder folder;
    TestTraining straight(settings);
    for (int i = 0; i < 3; ++i) straight.trainer.Step();
    straight.trainer.Save(folder.path());
    for (int i = 0; i < 3; ++i) straight.trainer.Step();
    for (const int threads : {1, 3}) {
      TestTraining resumed(settings);
      SetNumThreads(threads);
      resumed.trainer.Load(folder.path());
      for (int i = 0; i < 3; ++i) resumed.trainer.Step();
      EXPECT_EQ(Weights(straight.trainer), Weights(resumed.trainer)) << threads << " threads";
    }
    SetNumThreads(1);
  }
}

TEST(MomentsInBF16, ContinueBitForBitOnAnyNumberOfThreads) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    TrainSettings settings = MuonRun();
    settings.optimizer = kind;
    settings.moments = MomentType::kBF16;
    settings.dtype = ComputeType::kBF16;
    const TestFolder folder;
    TestTraining straight(settings);
    for (int i = 0; i < 3; ++i) straight.trainer.Step();
    straight.trainer.Save(folder.path());
    const SafetensorsFile saved(folder / "optimizer.safetensors");
    EXPECT_TRUE(saved.At("m.model.embeddings.weight").dtype == DType::kBF16);
    for (int i = 0; i < 3; ++i) straight.trainer.Step();
    for (const int threads : {1, 3}) {
      TestTraining resumed(settings);
      SetNumThreads(threads);
      resumed.trainer.Load(folder.path());
      for (int i = 0; i < 3; ++i) resumed.trainer.Step();
      EXPECT_EQ(Weights(straight.trainer), Weights(resumed.trainer)) << threads << " threads";
    }
    SetNumThreads(1);
  }
}

TEST(MomentsInBF16, DependOnTheSeedAndTakeHalfTheFile) {
  const TestFolder folder;
  const std::string path = folder / "o.safetensors";
  std::vector<std::string> files;
  for (const uint64_t seed : {1, 1, 2}) {
    LanguageModel model = TestModel();
    ModelParams gradients = model.NewGradients();
    FillGradients(gradients);
    Optimizer optimizer(model.params(), OptimizerKind::kMuon, Alone(), MomentType::kBF16);
    optimizer.Step(model.params(), Elements(gradients), {.lr = 0.01, .step = 1}, {}, 1, seed);
    optimizer.Save(path);
    files.push_back(ReadFile(path));
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_NE(files[0], files[2]);
  LanguageModel model = TestModel();
  Optimizer(model.params(), OptimizerKind::kMuon).Save(path);
  const auto bytes = [&] {
    const SafetensorsFile file(path);
    int64_t sum = 0;
    for (const auto& [name, entry] : file.entries()) sum += entry.bytes;
    return sum;
  };
  const int64_t whole = bytes();
  WriteFileAtomically(path, files[0]);
  EXPECT_EQ(2 * bytes(), whole);
}

TEST(MomentsInBF16, DoNotDependOnTheNumberOfRanks) {
  const TestFolder folder;
  const std::string path = folder / "o.safetensors";
  std::vector<std::string> files;
  std::vector<float> weights[2];
  for (const int n : {1, 3}) {
    AsRanks(n, [&](Group& group) {
      LanguageModel model = TestModel();
      ModelParams gradients = model.NewGradients();
      Optimizer optimizer(model.params(), OptimizerKind::kAdamW, group, MomentType::kBF16);
      for (int64_t step = 1; step <= 2; ++step) {
        FillGradients(gradients);
        std::vector<float*> own = Elements(gradients);
        for (size_t i = 0; i < own.size(); ++i) own[i] += optimizer.shards().Own(i).first;
        optimizer.Step(model.params(), own, {.lr = 0.01, .step = step});
      }
      optimizer.Gather();
      if (!group.leads()) return;
      optimizer.Save(path);
      model.params().ForEach([&](const Weight& w) {
        weights[files.size()].insert(weights[files.size()].end(), w.F32(), w.F32() + w.f32.size());
      });
      files.push_back(ReadFile(path));
    });
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(weights[0], weights[1]);
}

TEST(MomentsInBF16, AreNotTakenForThoseInF32) {
  const TestFolder folder;
  const std::string path = folder / "o.safetensors";
  LanguageModel model = TestModel();
  Optimizer f32(model.params()), bf16(model.params(), OptimizerKind::kAdamW, Alone(), MomentType::kBF16);
  f32.Save(path);
  EXPECT_EQ(UserErrorOf([&] { bf16.Load(path); }),
            path + ": tensor m.model.embeddings.weight, expected BF16 [97, 32], found F32 [97, 32]");
  bf16.Save(path);
  EXPECT_EQ(UserErrorOf([&] { f32.Load(path); }),
            path + ": tensor m.model.embeddings.weight, expected F32 [97, 32], found BF16 [97, 32]");
}

TEST(MuonOptimizer, KeepsOneMomentOfHiddenMatrices) {
  const TestFolder folder;
  LanguageModel model = TestModel();
  Optimizer(model.params(), OptimizerKind::kMuon).Save(folder / "o.safetensors");
  const SafetensorsFile file(folder / "o.safetensors");
  for (const WeightSpec& spec : WeightSpecs(model.config())) {
    EXPECT_TRUE(file.Has("m." + spec.name));
    EXPECT_EQ(file.Has("v." + spec.name), !IsHiddenMatrix(spec)) << spec.name;
  }
}

TEST(MuonOptimizer, RefusesTheStateOfAnotherOptimizer) {
  const TestFolder folder;
  const std::string path = folder / "o.safetensors";
  LanguageModel model = TestModel();
  Optimizer adamw(model.params()), muon(model.params(), OptimizerKind::kMuon);
  muon.Save(path);
  EXPECT_EQ(UserErrorOf([&] { adamw.Load(path); }),
            path + ": the state of another optimizer, expected adamw, found muon");
  adamw.Save(path);
  EXPECT_EQ(UserErrorOf([&] { muon.Load(path); }),
            path + ": the state of another optimizer, expected muon, found adamw");
  EXPECT_NO_THROW(adamw.Load(path));
}

}  // namespace
}  // namespace taipan
