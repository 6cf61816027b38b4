// Rows that begin with a state: those that go on through a text, and those that begin with noise.

#include "train/row_states.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "train/test_run.h"

namespace taipan {
namespace {

using testing::HasSubstr;

constexpr int64_t kContext = 24;

ModelConfig ConfigOf(LayerKind kind) {
  ModelConfig config = TestConfig();
  config.layer_pattern = {LayerKind::kMamba2, kind, LayerKind::kMamba2, kind};
  return config;
}

TrainSettings SettingsOf(StateStart state) {
  TrainSettings s = TestSettings();
  s.context = kContext;
  s.state = state;
  return s;
}

std::shared_ptr<const BatchSource> SourceOf(const Corpus& corpus, const TrainSettings& s, int64_t windows) {
  return std::make_shared<CarriedSource>(
      corpus,
      CarriedWindows{.context = s.context, .windows = windows, .separate = s.packing == DocumentPacking::kDocuments},
      s.batch_size, s.order, 3);
}

// A trainer with states; its rows go on through the text for ten windows.
struct StateTraining {
  explicit StateTraining(const TrainSettings& settings, const ModelConfig& config = TestConfig())
      : corpus(TestTokens(2000), 97, "test tokens"),
        trainer(TestModel(config), settings, SourceOf(corpus, settings, 10)) {}
  Corpus corpus;
  ModelTrainer trainer;
};

TEST(CarriedSource, ReadsRunsInTheirOrder) {
  const Corpus corpus(TestTokens(24 * 41 + 1), 97, "test tokens");
  TrainSettings s = SettingsOf(StateStart::kCarry);
  s.batch_size = 3;
  const CarriedSource source(corpus, {.context = kContext, .windows = 12}, 3, WindowOrder::kShuffled, 3);
  EXPECT_EQ(source.windows(), 10);  // 41 windows in 4 runs
  std::vector<std::vector<int32_t>> before(3);
  std::multiset<std::vector<int32_t>> seen;
  int goes_on = 0;
  for (int64_t step = 0; step < 10 * 4; ++step) {
    Batch batch;
    source.Fill(step, 0, 3, batch);
    for (int64_t row = 0; row < 3; ++row) {
      Batch alone;
      source.Fill(step, row, 1, alone);
      EXPECT_EQ(alone.segments[0].row, row);
      const auto begin = batch.tokens.begin() + row * kContext;
      const std::vector<int32_t> window(begin, begin + kContext);
      EXPECT_EQ(alone.tokens, window);
      if (source.GoesOn(step, row)) {
        ++goes_on;
        EXPECT_EQ(before[static_cast<size_t>(row)].back(), window.front()) << step;
      }
      before[static_cast<size_t>(row)].assign(alone.targets.begin(), alone.targets.end());
      seen.insert(window);
    }
  }
  EXPECT_GT(goes_on, 3 * 4 * 8);
  // Three epochs of 40 windows but for the runs whose beginnings or ends the staggered rows did not read.
  for (const std::vector<int32_t>& window : seen) EXPECT_LE(seen.count(window), 4u);
  EXPECT_EQ(std::set<std::vector<int32_t>>(seen.begin(), seen.end()).size(), 40u);
}

// Learning nothing, the steps of a row have the losses of its text read in one go, whatever remembers it.
class Carried : public testing::TestWithParam<LayerKind> {};

TEST_P(Carried, IsTheTextInOneGo) {
  const Corpus corpus(TestTokens(8 * kContext + 1), 97, "test tokens");
  TrainSettings s = SettingsOf(StateStart::kCarry);
  s.order = WindowOrder::kSequential;
  s.batch_size = 1;
  s.learning_rate = s.weight_decay = 0;
  s.gumbel_noise = "off";
  ModelTrainer trainer(TestModel(ConfigOf(GetParam())), s, SourceOf(corpus, s, 8));
  double carried = 0;
  for (int i = 0; i < 8; ++i) carried += trainer.Step().ce;
  s.context *= 8;
  s.state = StateStart::kNone;
  const WindowLoader loader(corpus, s.context, 1, WindowOrder::kSequential, 0);
  ModelTrainer whole(TestModel(ConfigOf(GetParam())), s, std::make_shared<CorpusSource>(loader));
  const double ce = whole.Step().ce;
  EXPECT_NEAR(carried / 8, ce, 1e-6 * ce);
  s.context /= 8;
  const WindowLoader windows(corpus, s.context, 1, WindowOrder::kSequential, 0);
  ModelTrainer fresh(TestModel(ConfigOf(GetParam())), s, std::make_shared<CorpusSource>(windows));
  double afresh = 0;
  for (int i = 0; i < 8; ++i) afresh += fresh.Step().ce;
  EXPECT_GT(std::abs(afresh / 8 - ce), 1e-5 * ce);  // the test sees a state that is lost
}

// dL/dw of a window whose incoming state is a number, not a function of w: its slope along the gradient is the square
// of the gradient's norm.
TEST_P(Carried, StopsTheGradientAtTheWindow) {
  const Corpus corpus(TestTokens(2 * kContext + 1), 97, "test tokens");
  const TrainSettings s = [] {
    TrainSettings settings = SettingsOf(StateStart::kCarry);
    settings.order = WindowOrder::kSequential;
    settings.batch_size = 1;
    return settings;
  }();
  LanguageModel model = TestModel(ConfigOf(GetParam()));
  const auto source = SourceOf(corpus, s, 2);
  RowStates states(model, s.state, 0);
  std::vector<Batch> batches(1);
  ForwardContext context;
  const auto bind = [&](int64_t step) {
    source->Fill(step, 0, 1, batches[0]);
    states.Bind(model, *source, step, batches);
  };
  bind(0);
  model.Forward(batches[0], {}, /*keep=*/false, context);
  states.Advance(model);
  bind(1);
  ASSERT_NE(batches[0].segments[0].state_in, nullptr);
  const auto loss = [&] {
    model.Forward(batches[0], {}, /*keep=*/false, context);
    return model.Score(context, nullptr) / kContext;
  };
  model.Forward(batches[0], {}, /*keep=*/true, context);
  ModelParams gradients = model.NewGradients();
  model.Backward(context, TotalsOf(batches), {}, {}, gradients);
  std::vector<const float*> g;
  double square = 0;
  gradients.ForEach([&](Weight& w) {
    g.push_back(w.F32());
    for (int64_t i = 0; i < w.f32.size(); ++i) square += std::pow(static_cast<double>(w.F32()[i]), 2);
  });
  const auto move = [&](double by) {
    size_t tensor = 0;
    model.params().ForEach([&](Weight& w) {
      for (int64_t i = 0; i < w.f32.size(); ++i) w.F32()[i] += static_cast<float>(by) * g[tensor][i];
      ++tensor;
    });
  };
  const double step = 2e-3 / std::sqrt(square);
  move(step);
  const double up = loss();
  move(-2 * step);
  EXPECT_NEAR((up - loss()) / (2 * step), square, 5e-3 * square);
}

INSTANTIATE_TEST_SUITE_P(Patterns, Carried,
                         testing::Values(LayerKind::kMamba2, LayerKind::kSelectiveAttention,
                                         LayerKind::kSlidingAttention));

class StateKinds : public testing::TestWithParam<std::tuple<StateStart, ComputeType>> {
 protected:
  TrainSettings Settings() const {
    TrainSettings s = SettingsOf(std::get<0>(GetParam()));
    s.dtype = std::get<1>(GetParam());
    return s;
  }
};

TEST_P(StateKinds, ResumeBitForBit) {
  const TestFolder folder;
  StateTraining straight(Settings());
  for (int i = 0; i < 7; ++i) straight.trainer.Step();
  StateTraining begun(Settings());
  for (int i = 0; i < 3; ++i) begun.trainer.Step();
  begun.trainer.Save(folder / "saved");
  StateTraining resumed(Settings());
  resumed.trainer.Load(folder / "saved");
  for (int i = 0; i < 4; ++i) resumed.trainer.Step();
  EXPECT_EQ(Weights(resumed.trainer), Weights(straight.trainer));
  resumed.trainer.Save(folder / "resumed");
  straight.trainer.Save(folder / "straight");
  EXPECT_EQ(ReadFile(folder / "resumed/states.safetensors"), ReadFile(folder / "straight/states.safetensors"));
}

TEST_P(StateKinds, ThreadsAndMicroBatchesChangeNothing) {
  const auto losses = [&](int threads, int64_t micro, int64_t segment) {
    TrainSettings s = Settings();
    s.micro_batch_size = micro;
    s.segment = segment;
    StateTraining t(s);
    SetNumThreads(threads);
    std::vector<double> all;
    for (int i = 0; i < 4; ++i) all.push_back(t.trainer.Step().ce);
    SetNumThreads(1);
    return all;
  };
  const std::vector<double> one = losses(1, 4, 0);
  EXPECT_EQ(losses(3, 4, 0), one);
  if (std::get<1>(GetParam()) == ComputeType::kBF16) return;
  for (const std::vector<double>& other : {losses(1, 3, 0), losses(1, 4, 16)}) {
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(other[i], one[i], 1e-5 * one[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, StateKinds,
                         testing::Combine(testing::Values(StateStart::kCarry, StateStart::kRandom),
                                          testing::Values(ComputeType::kF32, ComputeType::kBF16)));

// The states of the checkpoint belong to other text than the data that follows.
TEST(CarriedStates, BeginAfreshAfterARewind) {
  const TestFolder folder;
  TrainSettings s = SettingsOf(StateStart::kCarry);
  s.spike_guard = 6;
  s.rewind = 1;
  StateTraining t(s);
  const auto positions = [&] {
    t.trainer.Save(folder / "saved");
    std::multiset<std::string> all;
    const SafetensorsFile file(folder / "saved/states.safetensors");
    for (const auto& [key, value] : file.metadata()) {
      if (key.ends_with(".position")) all.insert(value);
    }
    return all;
  };
  for (int i = 0; i < 4; ++i) t.trainer.Step();
  EXPECT_EQ(positions().count("96"), 3u);  // one row has begun anew meanwhile
  for (int i = 0; i < 2; ++i) t.trainer.Step();
  t.trainer.RewindTo(folder / "saved");
  EXPECT_EQ(t.trainer.step(), 4);
  t.trainer.Step();
  EXPECT_EQ(positions(), (std::multiset<std::string>{"24", "24", "24", "24"}));
}

// The noise has the size of the states that rows end with, and is another one for every row and step.
TEST(RandomStates, AreAsLargeAsReadOnes) {
  const LanguageModel model = TestModel();
  const Corpus corpus(TestTokens(2000), 97, "test tokens");
  const CorpusSource source(WindowLoader(corpus, kContext, 4, WindowOrder::kShuffled, 3));
  RowStates states(model, StateStart::kRandom, 5);
  std::vector<Batch> batches(1);
  ForwardContext context;
  const auto power = [](const SequenceState& s) {
    double sum = 0;
    for (int64_t i = 0; i < s.layers[0].ssm.size(); ++i) sum += std::pow(s.layers[0].ssm.F32()[i], 2);
    return sum;
  };
  std::set<float> first;
  for (int64_t step = 0; step < 5; ++step) {
    source.Fill(step, 0, 4, batches[0]);
    states.Bind(model, source, step, batches);
    double noise = 0, read = 0;
    for (const Segment& s : batches[0].segments) {
      ASSERT_EQ(s.state_in == nullptr, step == 0);
      if (step == 0) continue;
      EXPECT_EQ(s.state_in->position, 0);
      first.insert(s.state_in->layers[0].ssm.F32()[0]);
      noise += power(*s.state_in);
    }
    model.Forward(batches[0], {}, /*keep=*/false, context);
    for (const Segment& s : batches[0].segments) read += power(*s.state_out);
    states.Advance(model);
    if (step == 1) {
      EXPECT_NEAR(noise, read, 0.7 * read);
    }
  }
  EXPECT_EQ(first.size(), 16u);
}

TEST(CarriedDocuments, BeginAfresh) {
  const TestFolder folder;
  std::string ids;  // documents of 61 tokens
  for (const int32_t id : TestTokens(1220, 96)) ids += static_cast<char>(ids.size() % 61 == 60 ? 0 : id + 1);
  WriteFileAtomically(folder / "some.u8", ids);
  const Corpus corpus({folder / "some.u8"}, nullptr, 97, {.eos = 0, .separate = true});
  ASSERT_EQ(corpus.documents(), 20);
  const CarriedSource source(corpus, {.context = kContext, .windows = 50, .separate = true}, 1,
                             WindowOrder::kSequential, 3);
  std::vector<int64_t> lengths;  // of what is read in one go
  for (int64_t step = 0; step < source.windows(); ++step) {
    Batch batch;
    source.Fill(step, 0, 1, batch);
    for (size_t j = 0; j < batch.segments.size(); ++j) {
      const int64_t n = batch.segments[j].length;
      if (j > 0 || !source.GoesOn(step, 0)) lengths.push_back(0);
      lengths.back() += n;
    }
  }
  lengths.pop_back();
  EXPECT_EQ(std::set<int64_t>(lengths.begin(), lengths.end()), std::set<int64_t>{60});
  EXPECT_GE(lengths.size(), 18u);
}

using StateRun = RunFixture;

TEST_F(StateRun, ResumesAndRefuses) {
  const auto request = [&](const std::string& run, int64_t steps) {
    RunRequest r = Request(run);
    r.settings.state = StateStart::kCarry;
    r.settings.state_windows = 20;
    r.settings.steps = steps;
    r.settings.schedule = Schedule::kWsd;  // rates do not depend on the number of steps
    r.settings.decay_steps = 0;
    r.settings.valid_data.clear();
    return r;
  };
  RunTraining(request("straight", 8), {});
  RunTraining(request("cut", 5), {});
  RunRequest more = request("cut", 8);
  more.resume = true;
  RunTraining(more, {});
  EXPECT_EQ(Metrics("cut"), Metrics("straight"));
  EXPECT_EQ(ReadFile(folder_ / "cut/model/model.safetensors"), ReadFile(folder_ / "straight/model/model.safetensors"));

  RunRequest other = request("other", 5);
  other.config->layer_pattern = {LayerKind::kMamba2, LayerKind::kAttention};
  EXPECT_THAT(ErrorOf(other), HasSubstr("full attention has no state"));
  other.settings.state = StateStart::kRandom;
  other.config->layer_pattern = {LayerKind::kAttention};
  EXPECT_THAT(ErrorOf(other), HasSubstr("no Mamba-2 layer"));
  other = request("other", 5);
  other.settings.data = {data_ + "=1"};
  EXPECT_THAT(ErrorOf(other), HasSubstr("only one text has windows that follow each other"));
  other = request("other", 5);
  other.settings.context_schedule = "12:3";
  EXPECT_THAT(ErrorOf(other), HasSubstr("--state carry"));
  other = request("other", 5);
  other.settings.order = WindowOrder::kDocuments;
  EXPECT_THAT(ErrorOf(other), HasSubstr("states go on through the text as it stands"));
  other.settings.state = StateStart::kRandom;
  EXPECT_THAT(ErrorOf(other), HasSubstr("need an end"));
  other.settings.packing = DocumentPacking::kDocuments;
  EXPECT_THAT(ErrorOf(other), HasSubstr("shuffled as rows"));
  more.settings.state = StateStart::kNone;
  more.settings.steps = 9;
  EXPECT_THAT(ErrorOf(more), HasSubstr("another \"state\""));
}

}  // namespace
}  // namespace taipan
