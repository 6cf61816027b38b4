// The state of a sequence: copied, forked within one call, restored and rewound, it continues as if nothing had been.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/inference_runs.h"
#include "support/random_model.h"

namespace taipan::test {
namespace {

using States = std::vector<StatePart>;

bool SameParts(const States& a, const States& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const StatePart& x, const StatePart& y) { return x.name == y.name && x.values == y.values; });
}

class StateTest : public testing::TestWithParam<NamedPattern> {
 protected:
  static constexpr int64_t kPrefix = 131;  // beyond a page of keys, on no chunk grid but that of 1

  StateTest()
      : config_(RandomConfig(GetParam().layers, 300 + GetParam().layers.size())),
        model_(RandomModel(config_, 3)),
        prefix_(RandomTokens(config_, kPrefix, 1)) {}

  SequenceState AfterPrefix() {
    SequenceState state = model_.NewState();
    Continue(model_, prefix_, {kPrefix}, state);
    return state;
  }
  std::vector<int32_t> Tokens(uint64_t seed) { return RandomTokens(config_, 40, seed); }

  ModelConfig config_;
  LanguageModel model_;
  std::vector<int32_t> prefix_;
};

TEST_P(StateTest, CopiesContinueApart) {
  SequenceState parent = AfterPrefix();
  const States before = FlattenState(parent);
  SequenceState a = parent, b = parent;
  // The two write in turn, so that shared pages would show.
  std::vector<Trace> child_a, child_b;
  const std::vector<int32_t> tokens_a = Tokens(11), tokens_b = Tokens(12);
  for (int64_t i = 0; i < 40; i += 10) {
    child_a.push_back(Continue(model_, {tokens_a.begin() + i, tokens_a.begin() + i + 10}, {3, 7}, a));
    child_b.push_back(Continue(model_, {tokens_b.begin() + i, tokens_b.begin() + i + 10}, {3, 7}, b));
  }
  EXPECT_TRUE(SameParts(before, FlattenState(parent))) << "a child changed its parent";
  EXPECT_EQ(parent.position, kPrefix);

  const std::vector<int64_t> pieces = {3, 7, 3, 7, 3, 7, 3, 7};
  SequenceState alone_a = AfterPrefix(), alone_b = AfterPrefix();
  const Trace expected_a = Continue(model_, tokens_a, pieces, alone_a);
  const Trace expected_b = Continue(model_, tokens_b, pieces, alone_b);
  const Trace late = Continue(model_, tokens_a, pieces, parent);
  EXPECT_EQ(late.logits, expected_a.logits) << "the parent continues as if it had no children";
  EXPECT_TRUE(SameParts(FlattenState(a), FlattenState(alone_a)));
  EXPECT_TRUE(SameParts(FlattenState(b), FlattenState(alone_b)));
  const int64_t rows = 10 * config_.vocab_size;
  for (size_t i = 0; i < 4; ++i) {
    const auto at = static_cast<int64_t>(i) * rows;
    EXPECT_TRUE(std::equal(child_a[i].logits.begin(), child_a[i].logits.end(), expected_a.logits.begin() + at));
    EXPECT_TRUE(std::equal(child_b[i].logits.begin(), child_b[i].logits.end(), expected_b.logits.begin() + at));
  }
}

// Two segments of one call read the same state and write their own.
TEST_P(StateTest, ForkWithinOneCall) {
  const SequenceState parent = AfterPrefix();
  const States before = FlattenState(parent);
  const std::vector<int32_t> tokens_a = Tokens(21), tokens_b = Tokens(22);
  Batch batch;
  batch.tokens = tokens_a;
  batch.tokens.insert(batch.tokens.end(), tokens_b.begin(), tokens_b.end());
  SequenceState a, b = model_.NewState();
  batch.segments = {{.begin = 0, .length = 40, .row = 0, .state_in = &parent, .state_out = &a},
                    {.begin = 40, .length = 40, .row = 1, .state_in = &parent, .state_out = &b}};
  ForwardContext context;
  model_.Forward(batch, {}, false, context);
  SequenceState alone_a = AfterPrefix(), alone_b = AfterPrefix();
  Continue(model_, tokens_a, {40}, alone_a);
  Continue(model_, tokens_b, {40}, alone_b);
  EXPECT_TRUE(SameParts(FlattenState(a), FlattenState(alone_a)));
  EXPECT_TRUE(SameParts(FlattenState(b), FlattenState(alone_b)));
  EXPECT_EQ(a.position, kPrefix + 40);
  EXPECT_TRUE(SameParts(before, FlattenState(parent)));
}

// A used state as the target of a fresh sequence keeps nothing of its past.
TEST_P(StateTest, FreshSequenceIntoAUsedState) {
  SequenceState used = AfterPrefix(), fresh = model_.NewState();
  const std::vector<int32_t> tokens = Tokens(31);
  for (SequenceState* state : {&used, &fresh}) {
    Batch batch;
    batch.tokens = tokens;
    batch.segments = {{.length = 40, .state_out = state}};
    ForwardContext context;
    model_.Forward(batch, {}, false, context);
  }
  EXPECT_EQ(used.position, 40);
  EXPECT_TRUE(SameParts(FlattenState(used), FlattenState(fresh)));
}

// Rewinding needs caches alone: patterns without Mamba-2.
TEST_P(StateTest, RewoundCachesContinue) {
  if (HasMamba2(config_)) GTEST_SKIP() << "a recurrent state cannot be rewound";
  const bool windowed = std::any_of(config_.layer_pattern.begin(), config_.layer_pattern.end(),
                                    [](LayerKind kind) { return kind != LayerKind::kAttention; });
  const int64_t back = windowed && config_.sliding_window < kPrefix ? 1 : 9;
  SequenceState state = AfterPrefix();
  const SequenceState untouched = state;
  for (LayerState& layer : state.layers) layer.kv.Truncate(kPrefix - back);
  state.position = kPrefix - back;
  SequenceState shorter = model_.NewState();
  Continue(model_, {prefix_.begin(), prefix_.end() - back}, {kPrefix - back}, shorter);
  const std::vector<int32_t> tokens = Tokens(41);
  const Trace rewound = Continue(model_, tokens, {5, 35}, state), expected = Continue(model_, tokens, {5, 35}, shorter);
  EXPECT_EQ(rewound.logits, expected.logits);
  EXPECT_TRUE(SameParts(FlattenState(untouched), FlattenState(AfterPrefix()))) << "a rewound copy wrote to its parent";
}

TEST_P(StateTest, WindowsCannotBeRewoundBeyondWhatTheyHold) {
  SequenceState state = AfterPrefix();
  for (LayerState& layer : state.layers) {
    if (layer.kv.window() == 0 || layer.kv.window() >= kPrefix) continue;
    EXPECT_THROW(layer.kv.Truncate(kPrefix - 2), UserError);
    EXPECT_EQ(layer.kv.end(), kPrefix) << "a refused rewind changed the cache";
  }
}

TEST_P(StateTest, MemoryOfWindowsAndMamba2IsBounded) {
  SequenceState state = AfterPrefix();
  Continue(model_, RandomTokens(config_, 600, 5), {600}, state);
  const int64_t first = state.bytes();
  const bool full = AnyBranch(config_, [](const Branch& branch) {
    const std::vector<StateSpec> specs = branch.State();
    return std::any_of(specs.begin(), specs.end(), [](const StateSpec& s) { return s.per_token && s.window == 0; });
  });
  for (int i = 0; i < 3; ++i) Continue(model_, RandomTokens(config_, 512, 6), {512}, state);
  if (full) {
    EXPECT_GT(state.bytes(), first);
  } else {
    EXPECT_EQ(state.bytes(), first);
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, StateTest, testing::ValuesIn(TestPatterns(Scaled(3))),
                         [](const auto& c) { return c.param.name; });

}  // namespace
}  // namespace taipan::test
