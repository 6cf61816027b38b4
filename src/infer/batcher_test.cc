#include "infer/batcher.h"

#include <gtest/gtest.h>

#include <map>

#include "infer/test_model.h"

namespace taipan {
namespace {

// Every token drawn and the logits it was drawn from.
struct Drawn {
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;
  void Add(int32_t token, std::span<const float> row) {
    tokens.push_back(token);
    logits.emplace_back(row.begin(), row.end());
  }
  bool operator==(const Drawn&) const = default;
};

struct Job {
  std::vector<int32_t> prompt;
  GenerationOptions options = {};
};

Job RandomJob(uint32_t i) {
  const auto number = [&](uint64_t k, uint64_t below) { return RandomBelow({7, kTestStream + 1000 + i}, k, below); };
  const int64_t length = static_cast<int64_t>(i % 3 == 0 ? 1 + number(0, 9) : 1 + number(0, 150));
  Job job{.prompt = RandomTokens(length, i)};
  job.options.max_tokens = static_cast<int64_t>(number(1, 20));
  job.options.sampling.seed = i;
  job.options.stop_tokens = {3, 5};
  if (i % 4 == 1) job.options.sampling.repetition_penalty = 1.4;
  return job;
}

Drawn Alone(const LanguageModel& model, const Job& job, int64_t piece) {
  Generator generator(model, piece);
  generator.KeepTokens();  // penalties look at the prompt too
  generator.Read(job.prompt);
  Drawn drawn;
  GenerationOptions options = job.options;
  generator.Generate(options, [&](int32_t token) {
    drawn.Add(token, generator.logits());
    return true;
  });
  return drawn;
}

void ExpectSequencesAsAlone(const LanguageModel& model, uint32_t count) {
  constexpr int64_t kPiece = 32;
  Batcher batcher(model, {.most_sequences = 24, .step_tokens = 40, .piece = kPiece});
  std::map<uint32_t, Drawn> together;
  std::map<uint32_t, BatchResult> ends;
  std::map<uint32_t, int64_t> ids;
  uint32_t added = 0;
  for (int64_t step = 0; added < count || batcher.running() + batcher.waiting() > 0; ++step) {
    for (int k = 0; k < 5 && added < count; ++k, ++added) {
      const uint32_t i = added;
      Job job = RandomJob(i);
      ids[i] = batcher.Add({.prompt = job.prompt,
                            .options = job.options,
                            .on_token =
                                [&together, i](int32_t token, std::span<const float> logits) {
                                  together[i].Add(token, logits);
                                  return true;
                                },
                            .on_end = [&ends, i](BatchResult result) { ends[i] = std::move(result); }});
    }
    if (step % 3 == 2) batcher.Cancel(ids[static_cast<uint32_t>(step * 5 % count)]);
    batcher.Step();
  }
  ASSERT_EQ(ends.size(), count);
  int64_t cancelled = 0;
  for (uint32_t i = 0; i < count; ++i) {
    Drawn alone = Alone(model, RandomJob(i), kPiece);
    const Drawn& mine = together[i];
    if (ends[i].reason == StopReason::kStopped) {
      ++cancelled;
      ASSERT_LE(mine.tokens.size(), alone.tokens.size()) << i;
      alone.tokens.resize(mine.tokens.size());
      alone.logits.resize(mine.tokens.size());
    }
    EXPECT_EQ(mine.tokens, alone.tokens) << i;
    EXPECT_EQ(mine.logits, alone.logits) << i;
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_LT(cancelled, count);
}

class BatcherOf : public ::testing::TestWithParam<Kept> {};

TEST_P(BatcherOf, GivesEverySequenceItsBitsAlone) {
  for (const std::string& pattern : kPatterns) {
    SCOPED_TRACE(pattern);
    ExpectSequencesAsAlone(TinyPatternModel(pattern, GetParam()), 64);
  }
}
INSTANTIATE_TEST_SUITE_P(Weights, BatcherOf, ::testing::ValuesIn(AllKept()),
                         [](const auto& kept) { return NameOf(kept.param); });

TEST(Batcher, ALongPromptDoesNotStallTheOthers) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  Batcher batcher(model, {.piece = 32});
  int64_t tokens = 0;
  bool first = false;
  const auto count = [&](int32_t, std::span<const float>) { return ++tokens > 0; };
  GenerationOptions options, one;
  options.max_tokens = 100;
  one.max_tokens = 1;
  batcher.Add({.prompt = RandomTokens(4), .options = options, .on_token = count});
  batcher.Step();
  const auto done = [&](int32_t, std::span<const float>) { return first = true; };
  batcher.Add({.prompt = RandomTokens(320), .options = one, .on_token = done});
  const int64_t before = tokens;
  for (int64_t step = 1; step <= 10; ++step) {
    EXPECT_FALSE(first);
    batcher.Step();
    EXPECT_EQ(tokens, before + step);
  }
  EXPECT_TRUE(first);
}

TEST(Batcher, GoesOnFromASnapshotAndLeavesOne) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const GenerationOptions options{.sampling = {.seed = 9}, .max_tokens = 12};
  Generator alone(model);
  alone.KeepTokens();
  alone.Read(RandomTokens(50));
  std::vector<int32_t> expected;
  const SequenceSnapshot fork = alone.Snapshot();
  alone.Generate(options, [&](int32_t token) { return expected.push_back(token), true; });

  Batcher batcher(model);
  std::vector<int32_t> drawn;
  SequenceSnapshot after;
  batcher.Add({.options = options,
               .from = fork,
               .keep_state = true,
               .on_token = [&](int32_t token, std::span<const float>) { return drawn.push_back(token), true; },
               .on_end = [&](BatchResult result) { after = std::move(*result.snapshot); }});
  batcher.Run();
  EXPECT_EQ(drawn, expected);
  const SequenceSnapshot whole = alone.Snapshot();
  EXPECT_EQ(after.state.position, 62);
  EXPECT_EQ(after.tokens, whole.tokens);
  EXPECT_EQ(after.token_digest, whole.token_digest);
  EXPECT_EQ(after.logits, whole.logits);
}

TEST(Batcher, RefusesWhatCannotRun) {
  const LanguageModel model = TinyModel(LayerKind::kAttention);
  Batcher batcher(model);
  EXPECT_THROW(batcher.Add({.prompt = {}}), UserError);
  EXPECT_THROW(batcher.Add({.prompt = {256}}), UserError);
  EXPECT_THROW(batcher.Add({.prompt = {1}, .options = {.sampling = {.top_p = 2}}}), UserError);
  EXPECT_FALSE(batcher.Step());
}

}  // namespace
}  // namespace taipan
