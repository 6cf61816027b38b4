#include "infer/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "infer/scoring.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

std::vector<int32_t> Tokens(int64_t n) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) {
    tokens.push_back(static_cast<int32_t>(RandomBelow({1, kTestStream}, static_cast<uint64_t>(i), 256)));
  }
  return tokens;
}

TEST(Divergence, OfAModelFromItselfIsNothing) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const std::vector<int32_t> tokens = Tokens(70);
  const Divergence d = CompareModels(model, model, tokens, 32);
  EXPECT_EQ(d.scored, 31 + 31 + 5);  // the first of each window has none before it
  EXPECT_LE(d.mean_kl, 1e-6);
  EXPECT_EQ(d.same_top, 1);
  EXPECT_EQ(d.nll_before, d.nll_after);
  const ScoreResult windows = ScoreWindows(model, tokens, {.context = 32, .stride = 32});
  EXPECT_NEAR(d.nll_before, -windows.sum_logprob, 1e-3);
}

// The sums written out, on the logits of one window.
TEST(Divergence, IsWhatItsDefinitionSays) {
  const LanguageModel a = TinyModel(LayerKind::kMamba2, 1), b = TinyModel(LayerKind::kMamba2, 2);
  const std::vector<int32_t> tokens = Tokens(20);
  std::vector<std::vector<double>> p, q;  // log probabilities
  for (const auto& [model, to] : {std::pair(&a, &p), std::pair(&b, &q)}) {
    ScoreOptions options;
    options.on_logits = [to = to](int64_t, ConstMatrixView logits) {
      for (int64_t r = 0; r < logits.rows; ++r) {
        double sum = 0;
        for (int64_t i = 0; i < 256; ++i) sum += std::exp(static_cast<double>(logits.F32(r)[i]));
        to->emplace_back();
        for (int64_t i = 0; i < 256; ++i) to->back().push_back(logits.F32(r)[i] - std::log(sum));
      }
    };
    ScoreTokens(*model, tokens, options);
  }
  double kl = 0, most = 0, nll = 0, same = 0;
  for (size_t r = 0; r + 1 < tokens.size(); ++r) {
    double of_row = 0;
    for (size_t i = 0; i < 256; ++i) of_row += std::exp(p[r][i]) * (p[r][i] - q[r][i]);
    kl += of_row / 19;
    most = std::max(most, of_row);
    nll -= q[r][static_cast<size_t>(tokens[r + 1])];
    same += std::max_element(p[r].begin(), p[r].end()) - p[r].begin() ==
            std::max_element(q[r].begin(), q[r].end()) - q[r].begin();
  }
  const Divergence d = CompareModels(a, b, tokens, 512);
  EXPECT_NEAR(d.mean_kl, kl, 1e-4 * kl);
  EXPECT_LE(d.high_kl, most * 1.0001);
  EXPECT_GT(d.high_kl, d.mean_kl);
  EXPECT_NEAR(d.nll_after, nll, 1e-4 * nll);
  EXPECT_NEAR(d.same_top, same / 19, 1e-9);
}

}  // namespace
}  // namespace taipan
