// Documents that share rows are trained on as if each stood alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "model/selection.h"
#include "train/test_run.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Every piece of a packed step as a row of its own.
class OneByOne : public BatchSource {
 public:
  OneByOne(const Corpus& corpus, const PackedRows& rows, int64_t packed_rows) {
    for (int64_t step = 0; step < 3; ++step) {
      std::vector<Piece>& pieces = steps_.emplace_back();
      for (int64_t row = 0; row < packed_rows; ++row) {
        for (const Piece& piece : rows.Row(step * packed_rows + row)) pieces.push_back(piece);
      }
      EXPECT_EQ(pieces.size(), steps_[0].size());
    }
    corpus_ = &corpus;
  }
  int64_t batch_size() const override { return static_cast<int64_t>(steps_[0].size()); }
  void Fill(int64_t step, int64_t first_row, int64_t rows, Batch& batch) const override {
    ClearBatch(batch);
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      AppendPiece(batch, *corpus_, steps_.at(static_cast<size_t>(step))[static_cast<size_t>(row)], row);
    }
  }

 private:
  const Corpus* corpus_;
  std::vector<std::vector<Piece>> steps_;
};

// Documents of 12 and 14 tokens: two fill a row of 24 inputs, and neither ends where a chunk of the scan does.
std::string PairsOfDocuments() {
  std::string ids;
  const std::vector<int32_t> some = TestTokens(26 * 12, 96);
  for (size_t i = 0; i < some.size(); ++i) {
    const bool end = i % 26 == 11 || i % 26 == 25;
    ids += static_cast<char>(end ? 0 : some[i] + 1);
  }
  return ids;
}

class PackedTraining : public testing::TestWithParam<LayerKind> {};

TEST_P(PackedTraining, EqualsDocumentsByThemselves) {
  const TestFolder folder;
  WriteFileAtomically(folder / "pairs.u8", PairsOfDocuments());
  const Corpus corpus({folder / "pairs.u8"}, nullptr, 97, {.eos = 0, .separate = true});
  ASSERT_EQ(corpus.documents(), 24);
  ModelConfig config = TestConfig();
  config.layer_pattern = {LayerKind::kMamba2, GetParam(), LayerKind::kMamba2};
  config.intermediate_size = 64;
  TrainSettings settings = TestSettings();
  settings.budget_loss_weight = 0;  // it counts tokens of rows
  settings.gumbel_noise = "off";    // which is drawn by row
  const PackedRows rows(corpus, settings.context, WindowOrder::kShuffled, 3);
  ASSERT_EQ(rows.padding(), 0);
  ModelTrainer packed(TestModel(config), settings, std::make_shared<PackedSource>(corpus, rows, settings.batch_size));
  const auto separate = std::make_shared<OneByOne>(corpus, rows, settings.batch_size);
  settings.batch_size = separate->batch_size();
  ASSERT_EQ(settings.batch_size, 8);
  ModelTrainer alone(TestModel(config), settings, separate);
  for (int step = 0; step < 3; ++step) {
    const StepMetrics a = packed.Step(), b = alone.Step();
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NEAR(a.ce, b.ce, 2e-6 * b.ce) << step;
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 2e-5 * b.grad_norm) << step;
    EXPECT_EQ(a.selected_share, b.selected_share);
  }
  const std::vector<float> one = Weights(packed), other = Weights(alone);
  // Adam divides by the size of the gradient: a rounding of one that is nearly 0 moves a weight by up to the rate.
  double difference = 0, norm = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    difference += std::pow(one[i] - other[i], 2);
    norm += std::pow(one[i], 2);
  }
  EXPECT_LT(std::sqrt(difference / norm), 1e-4);
}

// The mean that the trainer reports, written out: weighted by the tokens' weights, over those that have one.
TEST(WeightedTraining, CountsWhatTheWeightsSay) {
  SetNumThreads(1);
  const TestFolder folder;
  WriteFileAtomically(folder / "a.jsonl", R"({"text": "abcdefghij", "loss_mask": [[2, 5], [7, 8]]}
{"text": "klmnop", "loss_weight": 0.25}
{"text": "qrstuv", "loss_mask": []}
{"text": "wxyz"}
)");
  const ByteTokenizer bytes;
  const Corpus corpus({folder / "a.jsonl"}, &bytes, 256, {.separate = true});
  ASSERT_TRUE(corpus.weighted());
  const PackedRows rows(corpus, 24, WindowOrder::kSequential, 0);
  EXPECT_EQ(rows.rows(), 1);
  EXPECT_EQ(rows.Row(0).size(), 3u);  // what has no label is left out
  TrainSettings settings = TestSettings();
  settings.batch_size = 1;
  settings.learning_rate = settings.weight_decay = 0;
  settings.gumbel_noise = "off";
  const ModelConfig config = TestConfig(256);
  ModelTrainer trainer(TestModel(config), settings, std::make_shared<PackedSource>(corpus, rows, 1));
  Batch batch;
  for (const char* text : {"abcdefghij", "klmnop", "wxyz"}) {
    const std::vector<int32_t> ids = bytes.Encode(text);
    AppendWindow(batch, ids.data(), static_cast<int64_t>(ids.size()) - 1, static_cast<int64_t>(batch.segments.size()));
  }
  ForwardContext forward;
  const LanguageModel model = TestModel(config);
  model.Forward(batch, TrainingGate(config), /*keep=*/false, forward);
  std::vector<float> logprobs(batch.tokens.size());
  model.Score(forward, logprobs.data());
  double sum = 0, weight = 0;
  const std::vector<double> weights = {0, 1, 1, 1, 0, 0, 1, 0, 0, 0.25, 0.25, 0.25, 0.25, 0.25, 1, 1, 1};
  ASSERT_EQ(weights.size(), logprobs.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    sum -= weights[i] * logprobs[i];
    weight += weights[i];
  }
  EXPECT_NEAR(trainer.Step().ce, sum / weight, 1e-5);
  // Joined windows would lose the mask: refused.
  EXPECT_THAT(UserErrorOf([&] { Corpus({folder / "a.jsonl"}, &bytes, 256); }),
              HasSubstr("a.jsonl:1: \"loss_mask\" cannot be kept where texts are joined (--packing documents)"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, PackedTraining,
                         testing::Values(LayerKind::kMamba2, LayerKind::kSelectiveAttention, LayerKind::kAttention,
                                         LayerKind::kSlidingAttention));

class RunPackingTest : public RunFixture {
 protected:
  void SetUp() override {
    RunFixture::SetUp();
    std::string lines;
    for (int i = 0; i < 60; ++i)
      lines += "{\"text\": \"" + std::string(static_cast<size_t>(i % 30 + 1), 'a') + " b\"}\n";
    WriteFileAtomically(folder_ / "lines.jsonl", lines);
    std::replace(lines.begin(), lines.end(), 'a', 'c');
    WriteFileAtomically(folder_ / "valid.jsonl", lines);
  }
  RunRequest Packed(const std::string& run) const {
    RunRequest request = Request(run);
    request.settings.data = {folder_ / "lines.jsonl"};
    request.settings.valid_data = {folder_ / "valid.jsonl"};
    request.settings.packing = DocumentPacking::kDocuments;
    return request;
  }
};

TEST_F(RunPackingTest, ResumesBitForBitAndKeepsItsPacking) {
  RunRequest request = Packed("straight");
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  request = Packed("run");
  const RunHooks hooks = At(request, 3, [] { raise(SIGINT); });
  ASSERT_EQ(RunTraining(request, hooks), RunEnd::kInterrupted);
  RunRequest joined = Resume("run");
  joined.settings.data = request.settings.data;
  EXPECT_THAT(ErrorOf(joined), HasSubstr("another \"packing\", expected \"documents\", found \"join\""));
  request.resume = true;
  ASSERT_EQ(RunTraining(request, {}), RunEnd::kFinished);
  ExpectLikeStraightRun("run");
}

TEST_F(RunPackingTest, SchedulesAreForWindows) {
  RunRequest request = Packed("run");
  request.settings.context_schedule = "12:5";
  EXPECT_THAT(ErrorOf(request), HasSubstr("--context-schedule: only windows over one text follow a schedule"));
}

// 60 documents of i % 30 + 3 bytes, whose first byte is no target.
TEST_F(RunPackingTest, ValidatesDocumentsByThemselves) {
  ASSERT_EQ(RunTraining(Packed("run"), {}), RunEnd::kFinished);
  for (const std::string& text : Metrics("run")) {
    const auto line = nlohmann::json::parse(text);
    if (!line.contains("valid_ce")) continue;
    EXPECT_EQ(line["valid_tokens"], 2 * (30 * 29 / 2 + 30 * 2));
    EXPECT_DOUBLE_EQ(line["valid_bits_per_byte"].get<double>(), line["valid_ce"].get<double>() / std::log(2.0));
  }
}

// The order of the data does not depend on how a step is cut.
TEST_F(RunPackingTest, MicroBatchesHaveTheSameRows) {
  const Corpus corpus({folder_ / "lines.jsonl"}, std::make_unique<ByteTokenizer>().get(), 256, {.separate = true});
  const PackedSource source(corpus, PackedRows(corpus, 24, WindowOrder::kShuffled, 3), 4);
  Batch whole, part;
  for (int64_t step = 0; step < 30; ++step) {
    source.Fill(step, 0, 4, whole);
    std::vector<int32_t> tokens;
    size_t segments = 0;
    for (int64_t row = 0; row < 4; ++row) {
      source.Fill(step, row, 1, part);
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
      for (const Segment& s : part.segments) {
        EXPECT_EQ(s.row, whole.segments[segments].row);
        EXPECT_EQ(s.row_begin, whole.segments[segments++].row_begin);
      }
    }
    EXPECT_EQ(tokens, whole.tokens);
    EXPECT_EQ(segments, whole.segments.size());
  }
}

}  // namespace
}  // namespace taipan
