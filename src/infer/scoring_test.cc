#include "infer/scoring.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

struct Scores {
  ScoreResult result;
  std::vector<float> logprobs = {0};  // [n], entry 0 unused
  std::vector<std::vector<float>> logits;
};

Scores ScoreAll(const Model& model, const std::vector<int32_t>& tokens, int64_t piece) {
  Scores scores;
  ScoreOptions options;
  options.piece = piece;
  options.max_logits = 5 * 256;  // rows of a piece come in several calls
  options.on_logprobs = [&](int64_t first, std::span<const float> part) {
    EXPECT_EQ(first, static_cast<int64_t>(scores.logprobs.size()));
    scores.logprobs.insert(scores.logprobs.end(), part.begin(), part.end());
  };
  options.on_logits = [&](int64_t first, ConstMatrixView part) {
    EXPECT_EQ(first, static_cast<int64_t>(scores.logits.size()));
    for (int64_t i = 0; i < part.rows; ++i) scores.logits.emplace_back(part.F32(i), part.F32(i) + part.cols);
  };
  scores.result = ScoreTokens(model, tokens, options);
  return scores;
}

// Pieces are multiples of the chunk of 16.
TEST(ScoreTokens, PiecesGiveTheBitsOfTheWhole) {
  for (const LayerKind kind : AllKinds()) {
    const Model model = TinyModel(kind);
    const std::vector<int32_t> tokens = RandomTokens(130);
    const Scores whole = ScoreAll(model, tokens, 512);
    ASSERT_EQ(whole.logprobs.size(), 130u);
    ASSERT_EQ(whole.logits.size(), 130u);
    for (const int64_t piece : {16, 64}) {
      const Scores pieces = ScoreAll(model, tokens, piece);
      EXPECT_EQ(pieces.logprobs, whole.logprobs) << NameOf(kind) << " piece " << piece;
      EXPECT_EQ(pieces.logits, whole.logits) << NameOf(kind) << " piece " << piece;
      EXPECT_EQ(pieces.result.selected_share, whole.result.selected_share);
    }
  }
}

TEST(ScoreTokens, IsTheLogSoftmaxOfTheLogits) {
  const Model model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> tokens = RandomTokens(70);
  const Scores scores = ScoreAll(model, tokens, 32);
  double sum = 0;
  for (size_t i = 1; i < tokens.size(); ++i) {
    const std::vector<float>& row = scores.logits[i - 1];
    double largest = row[0], total = 0;
    for (const float x : row) largest = std::max<double>(largest, x);
    for (const float x : row) total += std::exp(x - largest);
    const double expected = row[static_cast<size_t>(tokens[i])] - largest - std::log(total);
    // f32 logits of size below 32 and f32 exponentials: a few units of 2^-23 times the magnitude.
    EXPECT_NEAR(scores.logprobs[i], expected, 4 * 0x1p-23 * (32 + std::abs(expected))) << "token " << i;
    sum += scores.logprobs[i];
  }
  EXPECT_EQ(scores.result.tokens, 70);
  EXPECT_EQ(scores.result.scored, 69);
  EXPECT_NEAR(scores.result.sum_logprob, sum, 1e-10);
  EXPECT_NEAR(scores.result.mean_logprob(), sum / 69, 1e-12);
}

TEST(ScoreTokens, OneTokenHasNothingToScore) {
  const Model model = TinyModel(LayerKind::kMamba2);
  const Scores scores = ScoreAll(model, {65}, 16);
  EXPECT_EQ(scores.result.scored, 0);
  EXPECT_EQ(scores.result.sum_logprob, 0);
  EXPECT_EQ(scores.logprobs.size(), 1u);
  EXPECT_EQ(scores.logits.size(), 1u);
}

TEST(ScoreTokens, RefusesBadTokensAndBrokenModels) {
  Model model = TinyModel(LayerKind::kMamba2);
  EXPECT_THROW(ScoreTokens(model, {}), UserError);
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{1, 256}), UserError);
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{-1}), UserError);
  model.params().norm.F32()[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{1, 2, 3}), UserError);
}

}  // namespace
}  // namespace taipan
