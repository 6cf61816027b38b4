#include "infer/continuations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "infer/scoring.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Log p and greedy of one question from the logits of the whole sequence.
ContinuationScore Alone(const LanguageModel& model, const Continuation& q) {
  const std::vector<int32_t> tokens = Joined(q.context, q.continuation);
  const int64_t first = static_cast<int64_t>(q.context.size());
  ContinuationScore score;
  ScoreOptions options;
  options.on_logprobs = [&](int64_t begin, std::span<const float> part) {
    for (size_t i = 0; i < part.size(); ++i) {
      if (begin + static_cast<int64_t>(i) >= first) score.sum_logprob += part[i];
    }
  };
  options.on_logits = [&](int64_t begin, ConstMatrixView part) {
    for (int64_t i = 0; i < part.rows; ++i) {
      const int64_t next = begin + i + 1;
      if (next < first || next >= static_cast<int64_t>(tokens.size())) continue;
      const float* row = part.F32(i);
      if (std::max_element(row, row + part.cols) - row != tokens[static_cast<size_t>(next)]) score.greedy = false;
    }
  };
  ScoreTokens(model, tokens, options);
  return score;
}

// Contexts that repeat apart, of one token, longer than a piece; continuations of one token and longer than a piece.
std::vector<Continuation> Questions() {
  std::vector<Continuation> questions;
  for (const int64_t context : {1, 20, 33, 600}) {
    for (const int64_t continuation : {1, 7, 530}) {
      questions.push_back({RandomTokens(context), RandomTokens(continuation, static_cast<uint32_t>(continuation))});
    }
  }
  std::rotate(questions.begin(), questions.begin() + 5, questions.end());
  return questions;
}

TEST(ScoreContinuations, IsTheScoreOfEachQuestionAlone) {
  for (const LayerKind kind : AllKinds()) {
    const LanguageModel model = TinyModel(kind);
    const std::vector<Continuation> questions = Questions();
    const std::vector<ContinuationScore> scores = ScoreContinuations(model, questions);
    ASSERT_EQ(scores.size(), questions.size());
    for (size_t i = 0; i < questions.size(); ++i) {
      // A forked state cuts the scan off its grid: f32 rounding of each token's log p, about 1e-5 in these models.
      const double tolerance = 2e-5 * static_cast<double>(questions[i].continuation.size());
      EXPECT_NEAR(scores[i].sum_logprob, Alone(model, questions[i]).sum_logprob, tolerance)
          << NameOf(kind) << " question " << i;
    }
  }
}

TEST(ScoreContinuations, OthersBesideChangeNoBit) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<Continuation> questions = Questions();
  const std::vector<ContinuationScore> together = ScoreContinuations(model, questions);
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto alone = ScoreContinuations(model, std::span(questions).subspan(i, 1));
    EXPECT_EQ(alone[0].sum_logprob, together[i].sum_logprob) << "question " << i;
    EXPECT_EQ(alone[0].greedy, together[i].greedy) << "question " << i;
  }
}

TEST(ScoreContinuations, KnowsTheGreedyOne) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  std::vector<int32_t> text = RandomTokens(9);
  for (int i = 0; i < 6; ++i) {  // the model's own continuation
    ScoreOptions options;
    int32_t best = 0;
    options.on_logits = [&](int64_t, ConstMatrixView part) {
      const float* row = part.F32(part.rows - 1);
      best = static_cast<int32_t>(std::max_element(row, row + part.cols) - row);
    };
    ScoreTokens(model, text, options);
    text.push_back(best);
  }
  Continuation greedy{{text.begin(), text.begin() + 9}, {text.begin() + 9, text.end()}};
  Continuation other = greedy;
  other.continuation[3] = (other.continuation[3] + 1) % 256;
  const std::vector<ContinuationScore> scores = ScoreContinuations(model, std::vector{greedy, other});
  EXPECT_TRUE(scores[0].greedy);
  EXPECT_FALSE(scores[1].greedy);
  EXPECT_GT(scores[0].sum_logprob, scores[1].sum_logprob);
}

TEST(ScoreContinuations, RefusesBadTokensAndBrokenModels) {
  LanguageModel model = TinyModel(LayerKind::kMamba2);
  EXPECT_THROW(ScoreContinuations(model, std::vector<Continuation>{{{1}, {256}}}), UserError);
  EXPECT_THROW(ScoreContinuations(model, std::vector<Continuation>{{{-1}, {2}}}), UserError);
  model.params().norm.F32()[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(ScoreContinuations(model, std::vector<Continuation>{{{1, 2}, {3}}}), UserError);
}

}  // namespace
}  // namespace taipan
