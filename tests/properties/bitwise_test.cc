// Equal bits, where the order of sums is ours: a row's result depends on the weights, the sequence and its cuts alone.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/parallel.h"
#include "support/inference_runs.h"
#include "support/random_model.h"
#include "support/step_runs.h"

namespace taipan::test {
namespace {

struct Case {
  NamedPattern pattern;
  uint64_t seed = 0;
};
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const NamedPattern& pattern : TestPatterns(Scaled(6))) {
    cases.push_back({pattern, static_cast<uint64_t>(cases.size() + 101)});
  }
  return cases;
}

class Bitwise : public testing::TestWithParam<Case> {
 protected:
  Bitwise() : config_(RandomConfig(GetParam().pattern.layers, GetParam().seed)), model_(RandomModel(config_, 5)) {
    for (int64_t n : {41, 1, 150, 19}) {
      sequences_.push_back(RandomTokens(config_, n, GetParam().seed * 10 + static_cast<uint64_t>(n)));
    }
  }
  ~Bitwise() override { SetNumThreads(1); }

  void ExpectSameBits(const Trace& a, const Trace& b, const std::string& what) {
    std::string why;
    EXPECT_TRUE(SameBits(a, b, &why)) << what << ": " << why;
  }

  ModelConfig config_;
  LanguageModel model_;
  Sequences sequences_;
};

TEST_P(Bitwise, OtherRowsOfTheBatchDoNotMatter) {
  for (uint64_t i = 0; i < 3; ++i) {
    const Plan plan = i == 0 ? TogetherPlan(sequences_) : RandomPlan(sequences_, GetParam().seed + i);
    const std::vector<Trace> mixed = RunPlan(model_, sequences_, plan);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const std::vector<Trace> alone = RunPlan(model_, sequences_, AlonePlan(plan, static_cast<int64_t>(s)));
      ExpectSameBits(alone[s], mixed[s], fmt::format("sequence {} alone and with others, plan {}", s, i));
    }
  }
}

TEST_P(Bitwise, ThreadsDoNotMatter) {
  const Plan plan = RandomPlan(sequences_, GetParam().seed);
  SetNumThreads(1);
  const std::vector<Trace> one = RunPlan(model_, sequences_, plan);
  for (int threads : {2, 3}) {
    SetNumThreads(threads);
    const std::vector<Trace> more = RunPlan(model_, sequences_, plan);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      ExpectSameBits(one[s], more[s], fmt::format("sequence {} with {} threads", s, threads));
    }
  }
}

TEST_P(Bitwise, ThreadsDoNotMatterToGradients) {
  const StepSpec spec = RandomStep(config_, 3, 3, 60, GetParam().seed);
  const StepPlan plan = GetParam().seed % 2 == 0 ? WholeStep(spec) : StepInPieces(spec, GetParam().seed);
  SetNumThreads(1);
  const StepOutcome one = RunStep(model_, spec, plan);
  for (int threads : {2, 3}) {
    SetNumThreads(threads);
    const StepOutcome more = RunStep(model_, spec, plan);
    EXPECT_EQ(one.nll, more.nll);
    for (size_t i = 0; i < one.gradients.size(); ++i) {
      const auto &a = one.gradients[i].values, &b = more.gradients[i].values;
      EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0)
          << one.gradients[i].name << " with " << threads << " threads";
    }
  }
}

// Pieces that begin on the chunk grid of their sequence: the same bits for every layer kind. Mamba-2 needs the grid;
// keys lie in tiles by absolute position, and an attention row does not know what else its call computes.
TEST_P(Bitwise, CutsOnTheChunkGrid) {
  const std::vector<Trace> whole = RunPlan(model_, sequences_, WholePlan(sequences_));
  for (int64_t chunks : {1, 2, 3}) {
    const Plan plan = PiecesPlan(sequences_, chunks * config_.chunk_size);
    const std::vector<Trace> pieces = RunPlan(model_, sequences_, plan);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      ExpectSameBits(whole[s], pieces[s], fmt::format("sequence {} in pieces of {} chunks", s, chunks));
    }
  }
}

// Without Mamba-2 blocks there is no grid: any cut gives the same bits.
TEST_P(Bitwise, AnyCutOfAttention) {
  if (HasMamba2(config_)) GTEST_SKIP() << "Mamba-2 blocks sum within chunks: pieces off the grid differ in rounding";
  const std::vector<Trace> whole = RunPlan(model_, sequences_, WholePlan(sequences_));
  for (const Plan& plan : {PiecesPlan(sequences_, 1), PiecesPlan(sequences_, 37), RandomPlan(sequences_, 3)}) {
    const std::vector<Trace> pieces = RunPlan(model_, sequences_, plan);
    for (size_t s = 0; s < sequences_.size(); ++s) {
      ExpectSameBits(whole[s], pieces[s], fmt::format("sequence {}", s));
    }
  }
}

// Attention for every token or for the selected ones: what reaches the stream is the same.
TEST_P(Bitwise, AttendAllChangesNoForwardValue) {
  StepSpec spec = RandomStep(config_, 2, 2, 70, GetParam().seed);
  spec.gate.attend_all = false;
  const StepOutcome selected = RunStep(model_, spec, WholeStep(spec));
  spec.gate.attend_all = true;
  const StepOutcome all = RunStep(model_, spec, WholeStep(spec));
  EXPECT_EQ(selected.nll, all.nll);
  EXPECT_EQ(selected.budget_loss, all.budget_loss);
  for (size_t g = 0; g < all.sals.size(); ++g) EXPECT_EQ(selected.sals[g].margin, all.sals[g].margin);
}

// A context that served a larger batch is as good as a new one.
TEST_P(Bitwise, ContextsCanBeReused) {
  Batch large, small;
  for (const auto& tokens : sequences_) {
    const int64_t n = static_cast<int64_t>(tokens.size()), row = static_cast<int64_t>(large.segments.size());
    large.segments.push_back({.begin = large.size(), .length = n, .row = row});
    large.tokens.insert(large.tokens.end(), tokens.begin(), tokens.end());
  }
  small.tokens = sequences_[0];
  small.targets.assign(small.tokens.size(), 3);
  small.segments = {{.length = small.size()}};
  ForwardContext used, fresh;
  model_.Forward(large, {}, true, used);
  model_.Forward(small, {}, true, used);
  model_.Forward(small, {}, true, fresh);
  std::vector<float> a(small.tokens.size()), b(small.tokens.size());
  EXPECT_EQ(model_.Score(used, a.data()), model_.Score(fresh, b.data()));
  EXPECT_EQ(a, b);
  BudgetSums from_used, from_fresh;
  AddBudgetSums(fresh, 1, from_fresh);
  ASSERT_NO_THROW(AddBudgetSums(used, 1, from_used)) << "rows of an earlier, larger batch are still reported";
  EXPECT_EQ(from_used.m, from_fresh.m);
}

INSTANTIATE_TEST_SUITE_P(Patterns, Bitwise, testing::ValuesIn(Cases()),
                         [](const auto& c) { return fmt::format("{}_{}", c.param.pattern.name, c.param.seed); });

}  // namespace
}  // namespace taipan::test
