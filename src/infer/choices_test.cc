#include "infer/choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

SequenceSnapshot Prompt(const LanguageModel& model, int64_t tokens = 20) {
  Generator generator(model);
  generator.KeepTokens();
  generator.Read(RandomTokens(tokens));
  return generator.Snapshot();
}

// What one generator draws, and the mean log-probability.
struct Alone {
  std::vector<int32_t> tokens;
  double mean = 0;
  SequenceSnapshot after;
};
Alone DrawAlone(const LanguageModel& model, const SequenceSnapshot& from, GenerationOptions options) {
  Generator generator(model);
  generator.KeepTokens();
  generator.Continue(from);
  Alone alone;
  double sum = 0;
  const GenerationStats stats = generator.Generate(options, [&](int32_t token) {
    sum += LogprobsOf(generator.logits(), token, 0).chosen.logprob;
    alone.tokens.push_back(token);
    return true;
  });
  alone.mean = sum / static_cast<double>(stats.generated_tokens);
  alone.after = generator.Snapshot();
  return alone;
}

TEST(Choices, AreTheMostLikelyOfCandidatesWithSeedsOfTheirOwn) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const SequenceSnapshot from = Prompt(model);
  GenerationOptions options{.sampling = {.temperature = 1, .top_p = 1, .seed = ~uint64_t{0}}, .max_tokens = 12};
  const Choices drawn = GenerateChoices(model, from, options, {.n = 3, .best_of = 70, .keep_states = true});
  EXPECT_EQ(drawn.generated_tokens, 70 * 12);
  EXPECT_EQ(drawn.selection.tokens, 70 * 12);
  ASSERT_EQ(drawn.best.size(), 3u);
  std::vector<double> means;
  for (uint64_t i = 0; i < 70; ++i) {
    options.sampling.seed = ~uint64_t{0} + i;
    means.push_back(DrawAlone(model, from, options).mean);
  }
  std::vector<double> sorted = means;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < 3; ++i) {
    const Choice& choice = drawn.best[i];
    EXPECT_DOUBLE_EQ(choice.mean_logprob, sorted[i]);
    EXPECT_DOUBLE_EQ(choice.mean_logprob, means[static_cast<size_t>(choice.candidate)]);
    EXPECT_EQ(choice.seed, ~uint64_t{0} + static_cast<uint64_t>(choice.candidate));
    options.sampling.seed = choice.seed;
    const Alone alone = DrawAlone(model, from, options);
    EXPECT_EQ(choice.tokens, alone.tokens);
    ASSERT_TRUE(choice.result.snapshot);
    EXPECT_EQ(choice.result.snapshot->logits, alone.after.logits);
    EXPECT_EQ(choice.result.snapshot->tokens, alone.after.tokens);
  }
}

TEST(Choices, TheTokenThatEndsOneCountsInItsMean) {
  const LanguageModel model = TinyModel(LayerKind::kAttention);
  const SequenceSnapshot from = Prompt(model);
  GenerationOptions options{.sampling = {.temperature = 2, .top_p = 1, .seed = 1}, .max_tokens = 6};
  const Choices free = GenerateChoices(model, from, options, {.keep_logprobs = true});
  ASSERT_EQ(free.best[0].logprobs.size(), 6u);
  options.stop_tokens = {free.best[0].tokens[2]};
  const Choices ended = GenerateChoices(model, from, options, {.keep_logprobs = true});
  const Choice& choice = ended.best[0];
  ASSERT_LE(choice.tokens.size(), 2u);
  EXPECT_EQ(choice.logprobs.size(), choice.tokens.size());
  EXPECT_EQ(choice.result.reason, StopReason::kStopToken);
  double sum = 0;
  for (size_t i = 0; i <= choice.tokens.size(); ++i) sum += free.best[0].logprobs[i].chosen.logprob;
  EXPECT_DOUBLE_EQ(choice.mean_logprob, sum / static_cast<double>(choice.tokens.size() + 1));
}

TEST(Choices, AStopKeepsWhatWasDrawn) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const SequenceSnapshot from = Prompt(model);
  const GenerationOptions options{.sampling = {.seed = 1}, .max_tokens = 100};
  int64_t tokens = 0;
  const Choices drawn = GenerateChoices(model, from, options,
                                        {.n = 1,
                                         .best_of = 200,
                                         .keep_states = true,
                                         .on_token = [&](int64_t, int32_t) { return ++tokens > 0; },
                                         .stop = [&] { return tokens >= 64 * 5; }});
  ASSERT_EQ(drawn.best.size(), 1u);
  const Choice& best = drawn.best[0];
  EXPECT_EQ(best.result.reason, StopReason::kStopped);
  EXPECT_GE(best.tokens.size(), 5u);
  EXPECT_LE(best.tokens.size(), 7u);
  GenerationOptions same = options;
  same.max_tokens = std::ssize(best.tokens);
  same.sampling.seed = best.seed;
  const Alone alone = DrawAlone(model, from, same);
  EXPECT_EQ(best.tokens, alone.tokens);
  EXPECT_EQ(best.result.snapshot->state.position, from.state.position + same.max_tokens);
  EXPECT_EQ(best.result.snapshot->logits, alone.after.logits);
}

TEST(Choices, RefuseNumbersThatContradict) {
  const auto error = [](int64_t n, int64_t best_of, double temperature = 1) {
    return UserErrorOf([&] { ValidateChoices({.n = n, .best_of = best_of}, {.temperature = temperature}); });
  };
  EXPECT_EQ(error(1, 1, 0), "");
  EXPECT_EQ(error(3, 3), "");
  EXPECT_THAT(error(0, 1), HasSubstr("n: value out of range, expected from 1 to 1024, found 0"));
  EXPECT_THAT(error(3, 2), HasSubstr("best-of: cannot choose that many from fewer candidates, expected from n (3) to"));
  EXPECT_THAT(error(1, 2000), HasSubstr("found 2000"));
  EXPECT_THAT(error(1, 4, 0), HasSubstr("best-of: at temperature 0 all candidates are the same"));
}

}  // namespace
}  // namespace taipan
