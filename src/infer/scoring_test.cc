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

Scores ScoreAll(const LanguageModel& model, const std::vector<int32_t>& tokens, int64_t piece) {
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
    const LanguageModel model = TinyModel(kind);
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
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
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
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const Scores scores = ScoreAll(model, {65}, 16);
  EXPECT_EQ(scores.result.scored, 0);
  EXPECT_EQ(scores.result.sum_logprob, 0);
  EXPECT_EQ(scores.logprobs.size(), 1u);
  EXPECT_EQ(scores.logits.size(), 1u);
}

TEST(ScoreTokens, TokensBeforeTheFirstAskedAreOnlyRead) {
  const LanguageModel model = TinyModel(LayerKind::kSlidingAttention);
  const std::vector<int32_t> tokens = RandomTokens(90);
  const Scores whole = ScoreAll(model, tokens, 16);
  for (const int64_t from : {1, 15, 16, 17, 40, 89, 90}) {
    std::vector<float> got;
    ScoreOptions options{.piece = 16, .from = from};
    options.on_logprobs = [&](int64_t first, std::span<const float> part) {
      EXPECT_EQ(first, from + static_cast<int64_t>(got.size()));
      got.insert(got.end(), part.begin(), part.end());
    };
    const ScoreResult result = ScoreTokens(model, tokens, options);
    EXPECT_EQ(result.scored, 90 - from);
    EXPECT_EQ(got, std::vector<float>(whole.logprobs.begin() + from, whole.logprobs.end())) << "from " << from;
  }
}

// The windows by hand, as Hugging Face's guide cuts them.
TEST(ScoreWindows, EveryTokenInTheFirstWindowThatHasIt) {
  const LanguageModel model = TinyModel(LayerKind::kAttention);
  struct Case {
    int64_t tokens, context, stride, scored;
  };
  for (const Case& c :
       {Case{100, 40, 16, 99}, {100, 40, 40, 97}, {30, 40, 20, 29}, {80, 40, 40, 78}, {1, 8, 4, 0}, {41, 40, 1, 40}}) {
    const std::vector<int32_t> tokens = RandomTokens(c.tokens);
    double expected = 0;
    int64_t previous = 0;
    for (int64_t begin = 0; begin < c.tokens; begin += c.stride) {
      const int64_t end = std::min(begin + c.context, c.tokens);
      const Scores window = ScoreAll(model, {tokens.begin() + begin, tokens.begin() + end}, 0);
      for (int64_t i = std::max<int64_t>(previous, begin + 1); i < end; ++i) {
        if (i > 0) expected += window.logprobs[static_cast<size_t>(i - begin)];
      }
      previous = end;
      if (end == c.tokens) break;
    }
    double reported = 0;
    int64_t last = 0;
    const auto on_logprobs = [&](int64_t begin, int64_t first, std::span<const float> part) {
      EXPECT_EQ(begin % c.stride, 0);
      EXPECT_GT(first, std::max(begin, last));  // positions in the whole, each once
      EXPECT_LE(first + static_cast<int64_t>(part.size()), std::min(begin + c.context, c.tokens));
      last = first + static_cast<int64_t>(part.size()) - 1;
      for (const float x : part) reported += x;
    };
    const ScoreResult result =
        ScoreWindows(model, tokens, {.context = c.context, .stride = c.stride, .on_logprobs = on_logprobs});
    EXPECT_NEAR(reported, expected, 1e-9);
    EXPECT_EQ(result.tokens, c.tokens);
    EXPECT_EQ(result.scored, c.scored);
    EXPECT_NEAR(result.sum_logprob, expected, 1e-9) << c.tokens << " " << c.context << " " << c.stride;
  }
}

TEST(ScoreTokens, RefusesBadTokensAndBrokenModels) {
  LanguageModel model = TinyModel(LayerKind::kMamba2);
  EXPECT_THROW(ScoreTokens(model, {}), UserError);
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{1, 256}), UserError);
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{-1}), UserError);
  model.params().norm.F32()[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(ScoreTokens(model, std::vector<int32_t>{1, 2, 3}), UserError);
}

}  // namespace
}  // namespace taipan
