// One computation, however it is cut: whole = pieces = token by token = packed with others = batched with others.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "model/selection.h"
#include "support/inference_runs.h"
#include "support/random_model.h"

namespace taipan::test {
namespace {

struct Case {
  NamedPattern pattern;
  uint64_t seed = 0;
};
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const NamedPattern& pattern : TestPatterns(Scaled(6))) {
    for (int64_t i = 0; i < Scaled(2); ++i) cases.push_back({pattern, static_cast<uint64_t>(cases.size() + 1)});
  }
  return cases;
}

class Equality : public testing::TestWithParam<Case> {
 protected:
  Equality() : config_(RandomConfig(GetParam().pattern.layers, GetParam().seed)), model_(RandomModel(config_, 7)) {
    // A single token, lengths around chunks and tiles, and one beyond a page of keys.
    for (int64_t n : {1, 70, 33, 137, 64}) {
      sequences_.push_back(RandomTokens(config_, n, GetParam().seed * 100 + static_cast<uint64_t>(n)));
    }
    if (GetParam().seed % 3 == 0) config_.selection_threshold.assign(static_cast<size_t>(config_.num_sals()), 0.2);
    if (GetParam().seed % 5 == 1) config_.selection = Selection::kRandom;
    if (GetParam().seed % 5 == 2) config_.selection = Selection::kPeriodic;
    gate_ = InferenceGate(config_);
    static std::map<uint64_t, std::pair<Tolerances, std::vector<Trace>>> expected;  // one for all tests of a case
    auto [at, is_new] = expected.try_emplace(GetParam().seed);
    if (is_new) {
      at->second = {TraceTolerance(config_, 7, sequences_, gate_),
                    RunPlan(model_, sequences_, WholePlan(sequences_), gate_)};
    }
    std::tie(tolerance_, whole_) = at->second;
  }

  void ExpectSame(const char* how, const Plan& plan) {
    const std::vector<Trace> traces = RunPlan(model_, sequences_, plan, gate_);
    int64_t rows = 0, all = 0;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      EXPECT_EQ(CompareTraces(whole_[s], traces[s], tolerance_, gate_.delta, &rows), "") << how << ", sequence " << s;
      all += whole_[s].tokens();
    }
    EXPECT_GE(rows, all / 2) << how << ": near-ties left too little to compare";
  }

  ModelConfig config_;
  LanguageModel model_;
  Sequences sequences_;
  GateOptions gate_;
  Tolerances tolerance_;
  std::vector<Trace> whole_;
};

// The bound must be able to catch something: far below the size of what it bounds.
TEST_P(Equality, TolerancesAreSmall) {
  EXPECT_LT(tolerance_.logits, 1e-2);
  EXPECT_LT(tolerance_.state, 1e-2);
  EXPECT_LT(tolerance_.margin, 1e-2);
}
TEST_P(Equality, Packed) { ExpectSame("all sequences in one call", TogetherPlan(sequences_)); }
TEST_P(Equality, TokenByToken) { ExpectSame("token by token, batched", PiecesPlan(sequences_, 1)); }
TEST_P(Equality, PiecesOfOneSize) {
  ExpectSame("pieces of 13", PiecesPlan(sequences_, 13));
  ExpectSame("pieces of one chunk", PiecesPlan(sequences_, config_.chunk_size));
}
TEST_P(Equality, RandomPiecesInRandomBatches) {
  for (uint64_t i = 0; i < static_cast<uint64_t>(Scaled(3)); ++i) {
    ExpectSame("random pieces", RandomPlan(sequences_, GetParam().seed * 31 + i));
  }
}
// Every cut of a short sequence into two.
TEST_P(Equality, EveryCut) {
  const Sequences one = {sequences_[2]};
  const std::vector<Trace> whole = RunPlan(model_, one, WholePlan(one), gate_);
  int64_t rows = 0;
  for (int64_t cut = 1; cut < whole[0].tokens(); ++cut) {
    const std::vector<Trace> two = RunPlan(model_, one, {{{0, cut}}, {{0, whole[0].tokens() - cut}}}, gate_);
    EXPECT_EQ(CompareTraces(whole[0], two[0], tolerance_, gate_.delta, &rows), "") << "cut at " << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, Equality, testing::ValuesIn(Cases()),
                         [](const auto& c) { return fmt::format("{}_{}", c.param.pattern.name, c.param.seed); });

}  // namespace
}  // namespace taipan::test
