#include "infer/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "infer/logprobs.h"

namespace taipan {
namespace {

constexpr SamplingOptions kPlain = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0};

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + 3.0));
  return logits;
}

std::vector<float> RandomLogits(int64_t n, uint32_t stream) {
  std::vector<float> logits;
  for (int64_t i = 0; i < n; ++i) {
    logits.push_back(static_cast<float>(3 * RandomNormal({1, kTestStream + stream}, static_cast<uint64_t>(i))));
  }
  return logits;
}

std::vector<int32_t> KeptIds(const std::vector<float>& logits, const SamplingOptions& options) {
  Sampler sampler(options);
  std::vector<int32_t> ids;
  for (const Candidate& c : sampler.Distribution(logits, 0)) ids.push_back(c.id);
  return ids;
}

// The definition, with full sorts: temperature, top-k, top-p of what is left, min-p of what is left.
std::vector<Candidate> Reference(const std::vector<float>& logits, const SamplingOptions& o) {
  std::vector<Candidate> all;
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    all.push_back({static_cast<int32_t>(i), std::exp((logits[i] - largest) / o.temperature)});
  }
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.probability > b.probability; });
  auto normalise = [&] {
    double total = 0;
    for (const Candidate& c : all) total += c.probability;
    for (Candidate& c : all) c.probability /= total;
  };
  normalise();
  if (o.top_k > 0 && o.top_k < static_cast<int64_t>(all.size())) all.resize(static_cast<size_t>(o.top_k));
  normalise();
  size_t keep = 0;
  for (double sum = 0; keep < all.size() && (keep == 0 || o.top_p == 1 || sum < o.top_p); ++keep)
    sum += all[keep].probability;
  all.resize(keep);
  normalise();
  const double floor = o.min_p * all.front().probability;
  while (all.size() > 1 && all.back().probability < floor) all.pop_back();
  normalise();
  return all;
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  Sampler sampler({.temperature = 0});
  EXPECT_EQ(sampler.Sample(std::vector<float>{-1, 2, 5, 5, 3}, 0), 2);
  EXPECT_EQ(sampler.Sample(std::vector<float>{7, 2, 7}, 9), 0);
}

TEST(Sampler, TopKKeepsTheMostLikelyAndTheFirstOfEqualOnes) {
  SamplingOptions options = kPlain;
  options.top_k = 3;
  EXPECT_EQ(KeptIds({1, 4, 2, 2, 2}, options), (std::vector<int32_t>{1, 2, 3}));
}

TEST(Sampler, TopPKeepsTheTokenThatCrossesTheSum) {
  SamplingOptions options = kPlain;
  options.top_p = 0.65;
  EXPECT_EQ(KeptIds(LogitsOf({0.1, 0.4, 0.2, 0.3}), options), (std::vector<int32_t>{1, 3}));
  options.top_p = 0;
  EXPECT_EQ(KeptIds(LogitsOf({0.1, 0.4, 0.2, 0.3}), options), (std::vector<int32_t>{1}));
}

TEST(Sampler, MinPComparesWithTheMostLikely) {
  SamplingOptions options = kPlain;
  options.min_p = 0.55;
  EXPECT_EQ(KeptIds(LogitsOf({0.1, 0.4, 0.2, 0.3}), options), (std::vector<int32_t>{1, 3}));
}

// 0.4 of all, but 0.57 of the two that top-k leaves.
TEST(Sampler, TopPRefersToWhatTopKLeft) {
  SamplingOptions options = kPlain;
  options.top_p = 0.5;
  EXPECT_EQ(KeptIds(LogitsOf({0.4, 0.3, 0.2, 0.1}), options).size(), 2u);
  options.top_k = 2;
  EXPECT_EQ(KeptIds(LogitsOf({0.4, 0.3, 0.2, 0.1}), options).size(), 1u);
}

// At temperature 1/2 probabilities are squared: 0.53 of all for the first.
TEST(Sampler, TemperatureComesFirst) {
  SamplingOptions options = kPlain;
  options.top_p = 0.5;
  options.temperature = 0.5;
  EXPECT_EQ(KeptIds(LogitsOf({0.4, 0.3, 0.2, 0.1}), options).size(), 1u);
}

TEST(Sampler, AgreesWithTheDefinition) {
  for (uint32_t trial = 0; trial < 200; ++trial) {
    const RandomKey key{2, kTestStream, trial};
    const int64_t n = 1 + static_cast<int64_t>(RandomBelow(key, 0, 60));
    const std::vector<float> logits = RandomLogits(n, trial);
    SamplingOptions options = {
        .temperature = 0.2 + 2 * RandomUniform(key, 1), .top_k = 0, .top_p = 1, .min_p = 0, .seed = 0};
    if (RandomUniform(key, 2) < 0.5) options.top_k = static_cast<int64_t>(RandomBelow(key, 3, 30));
    if (RandomUniform(key, 4) < 0.5) options.top_p = RandomUniform(key, 5);
    if (RandomUniform(key, 6) < 0.5) options.min_p = RandomUniform(key, 7);
    const std::vector<Candidate> expected = Reference(logits, options);
    Sampler sampler(options);
    std::vector<Candidate> found(sampler.Distribution(logits, 0).begin(), sampler.Distribution(logits, 0).end());
    std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.probability > b.probability; });
    ASSERT_EQ(found.size(), expected.size()) << "trial " << trial;
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].id, expected[i].id);
      // Some dozens of additions and three divisions in double: 60 * 2^-53 relative.
      EXPECT_NEAR(found[i].probability, expected[i].probability, 1e-14);
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<double> p = {0.5, 0.02, 0.28, 0.2};
  const std::vector<float> logits = LogitsOf(p);
  Sampler sampler({.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 3});
  constexpr int kDraws = 40000;
  std::vector<int> counts(p.size());
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sampler.Sample(logits, i))];
  for (size_t i = 0; i < p.size(); ++i) {
    const double sigma = std::sqrt(kDraws * p[i] * (1 - p[i]));
    EXPECT_NEAR(counts[i], kDraws * p[i], 5 * sigma) << "token " << i;
  }
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  const std::vector<float> logits = RandomLogits(50, 1);
  Sampler forward({.seed = 5}), backward({.seed = 5}), other({.seed = 6});
  std::vector<int32_t> a(64), b(64), c(64);
  for (size_t i = 0; i < 64; ++i) a[i] = forward.Sample(logits, static_cast<int64_t>(i));
  for (size_t i = 64; i-- > 0;) b[i] = backward.Sample(logits, static_cast<int64_t>(i));
  for (size_t i = 0; i < 64; ++i) c[i] = other.Sample(logits, static_cast<int64_t>(i));
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(Sampler, ImpossibleTokensAreNeverDrawn) {
  const float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 1});
  for (int i = 0; i < 200; ++i) EXPECT_EQ(sampler.Sample(std::vector<float>{-inf, 1, -inf}, i), 1);
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature});
    EXPECT_THROW(sampler.Sample(std::vector<float>{1, nan, 2}, 0), UserError);
    EXPECT_THROW(sampler.Sample(std::vector<float>{nan, 1}, 0), UserError);
    EXPECT_THROW(sampler.Sample(std::vector<float>{1, inf}, 0), UserError);
    EXPECT_THROW(sampler.Sample(std::vector<float>{-inf, -inf}, 0), UserError);
  }
}

// 2 / 1.25, -1 * 1.25; the others as they were.
TEST(Sampler, RepetitionPenaltyDividesAboveZeroAndMultipliesBelow) {
  SamplingOptions options = kPlain;
  options.repetition_penalty = 1.25;
  const std::vector<float> logits = {2, -1, 1.7f, -1.2f};
  const std::vector<int32_t> history = {0, 1, 0, 0, 1};  // how often does not matter
  Sampler sampler(options), greedy({.temperature = 0, .repetition_penalty = 1.25});
  const auto p = sampler.Distribution(logits, 0, history);
  ASSERT_EQ(p.size(), 4u);
  EXPECT_NEAR(std::log(p[0].probability / p[2].probability), 1.6 - 1.7, 1e-6);
  EXPECT_NEAR(std::log(p[1].probability / p[3].probability), -1.25 + 1.2, 1e-6);
  EXPECT_EQ(greedy.Sample(logits, 0), 0);
  EXPECT_EQ(greedy.Sample(logits, 0, history), 2);
  EXPECT_EQ(greedy.Sample(logits, 0), 0);  // counts do not stay
}

// Token 0 thrice, token 1 once: 3 - 3 * 0.5 - 0.25 and 2 - 0.5 - 0.25.
TEST(Sampler, PresenceAndFrequencyAreSubtracted) {
  SamplingOptions options = kPlain;
  options.presence_penalty = 0.25;
  options.frequency_penalty = 0.5;
  const std::vector<float> logits = {3, 2, 1};
  const std::vector<int32_t> history = {0, 1, 0, 0};
  const auto logit_of = [&](const SamplingOptions& o, size_t id) {
    Sampler sampler(o);
    const auto p = sampler.Distribution(logits, 0, history);
    return 1 + std::log(p[id].probability / p[2].probability);
  };
  EXPECT_NEAR(logit_of(options, 0), 1.25, 1e-6);
  EXPECT_NEAR(logit_of(options, 1), 1.25, 1e-6);
  options.penalty_window = 2;  // the last two tokens alone
  EXPECT_NEAR(logit_of(options, 0), 1.75, 1e-6);
  EXPECT_NEAR(logit_of(options, 1), 2, 1e-6);
  options.repetition_penalty = 2;  // comes first: 3 / 2 - 2 * 0.5 - 0.25
  EXPECT_NEAR(logit_of(options, 0), 0.25, 1e-6);
}

TEST(Sampler, BiasIsAddedToLogits) {
  SamplingOptions options{.temperature = 0};
  options.logit_bias = {{2, 1.5}, {0, -100}};
  EXPECT_EQ(Sampler(options).Sample(std::vector<float>{4, 3, 2}, 0), 2);
  options.logit_bias = {{2, 1.0}};
  EXPECT_EQ(Sampler(options).Sample(std::vector<float>{1, 3, 2}, 0), 1);  // equal: the first
  options.logit_bias = {{3, 1.0}};
  EXPECT_THROW(Sampler(options).Sample(std::vector<float>{1, 3, 2}, 0), UserError);
}

TEST(Sampler, AMaskSaysWhatMayComeNext) {
  std::vector<int32_t> seen;
  const TokenMask mask = [&](std::span<const int32_t> generated, std::vector<bool>& allowed) {
    seen.assign(generated.begin(), generated.end());
    allowed[static_cast<size_t>(generated.size())] = false;
  };
  for (const double temperature : {0.0, 0.01}) {
    Sampler sampler({.temperature = temperature}, mask);
    EXPECT_EQ(sampler.Sample(std::vector<float>{4, 3, 2}, 0), 1);
    EXPECT_EQ(sampler.Sample(std::vector<float>{4, 3, 2}, 0, std::vector<int32_t>{9, 8, 1}, 1), 0);
    EXPECT_EQ(seen, std::vector<int32_t>{1});
  }
  Sampler none({}, [](std::span<const int32_t>, std::vector<bool>& allowed) { allowed.assign(3, false); });
  EXPECT_THROW(none.Sample(std::vector<float>{4, 3, 2}, 0), UserError);
}

// p = 1/2, 1/4, 1/8, 1/8: entropy 1.75 ln 2; surprises 1, 2, 3, 3 ln 2, so distances 0.75, 0.25, 1.25, 1.25 ln 2.
TEST(Sampler, TypicalPKeepsTheNearestToTheMeanSurprise) {
  const std::vector<float> logits = LogitsOf({0.5, 0.25, 0.125, 0.125});
  SamplingOptions options = kPlain;
  for (const auto& [mass, kept] : std::map<double, std::vector<int32_t>>{
           {0.2, {1}}, {0.3, {0, 1}}, {0.7, {0, 1}}, {0.8, {0, 1, 2, 3}}, {0.95, {0, 1, 2, 3}}}) {
    options.typical_p = mass;
    EXPECT_EQ(KeptIds(logits, options), kept) << mass;
  }
  options.top_k = 2;  // comes first: 2/3 and 1/3, whose mean surprise is 0.918 bits; theirs are 0.585 and 1.585
  options.typical_p = 0.5;
  EXPECT_EQ(KeptIds(logits, options), std::vector<int32_t>{0});
}

TEST(Logprobs, AreThoseOfTheSoftmax) {
  const TokenLogprobs found = LogprobsOf(LogitsOf({0.125, 0.5, 0.125, 0.25}), 2, 3);
  EXPECT_EQ(found.chosen.token, 2);
  EXPECT_NEAR(found.chosen.logprob, std::log(0.125), 1e-6);
  ASSERT_EQ(found.top.size(), 3u);
  EXPECT_EQ(found.top[0].token, 1);
  EXPECT_NEAR(found.top[1].logprob, std::log(0.25), 1e-6);
  EXPECT_EQ(found.top[2].token, 0);  // the first of equal ones
  EXPECT_TRUE(LogprobsOf(std::vector<float>{1, 2}, 0, 0).top.empty());
  EXPECT_EQ(LogprobsOf(std::vector<float>{1, 2}, 0, 9).top.size(), 2u);
}

TEST(Sampler, RefusesSettingsOutOfRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(Sampler({.temperature = -1}), UserError);
  EXPECT_THROW(Sampler({.temperature = nan}), UserError);
  EXPECT_THROW(Sampler({.top_k = -1}), UserError);
  EXPECT_THROW(Sampler({.top_p = -0.1}), UserError);
  EXPECT_THROW(Sampler({.top_p = 1.5}), UserError);
  EXPECT_THROW(Sampler({.min_p = -0.1}), UserError);
  EXPECT_THROW(Sampler({.min_p = nan}), UserError);
  EXPECT_THROW(Sampler({.typical_p = 0}), UserError);
  EXPECT_THROW(Sampler({.typical_p = nan}), UserError);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}), UserError);
  EXPECT_THROW(Sampler({.presence_penalty = 2.5}), UserError);
  EXPECT_THROW(Sampler({.frequency_penalty = nan}), UserError);
  EXPECT_THROW(Sampler({.penalty_window = -1}), UserError);
  EXPECT_THROW(Sampler({.logit_bias = {{-1, 0.0}}}), UserError);
  EXPECT_THROW(Sampler({.logit_bias = {{1, nan}}}), UserError);
}

}  // namespace
}  // namespace taipan
