#include "infer/generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

std::vector<int32_t> Generated(Generator& generator, const GenerationOptions& options) {
  std::vector<int32_t> tokens;
  generator.Generate(options, [&](int32_t token) {
    tokens.push_back(token);
    return true;
  });
  return tokens;
}

std::vector<int32_t> GeneratedAfter(const LanguageModel& model, const std::vector<int32_t>& prompt, int64_t piece,
                                    const GenerationOptions& options) {
  Generator generator(model, piece);
  generator.Read(prompt);
  return Generated(generator, options);
}

std::vector<float> Logits(const Generator& generator) { return {generator.logits().begin(), generator.logits().end()}; }

constexpr SamplingOptions kGreedy = {.temperature = 0};

TEST(ForEachPiece, CutsOnTheGrid) {
  std::vector<std::pair<int64_t, int64_t>> pieces;
  ForEachPiece(5, 20, 8, [&](int64_t begin, int64_t count) { pieces.emplace_back(begin, count); });
  EXPECT_EQ(pieces, (std::vector<std::pair<int64_t, int64_t>>{{0, 3}, {3, 8}, {11, 8}, {19, 1}}));
  ForEachPiece(0, 0, 8, [&](int64_t, int64_t) { FAIL(); });
}

TEST(PieceLength, IsAMultipleOfTheChunk) {
  ModelConfig config = TinyConfig(LayerKind::kMamba2);
  EXPECT_EQ(PieceLength(config), 512);
  config.chunk_size = 96;
  EXPECT_EQ(PieceLength(config), 576);
  config.chunk_size = 1024;
  EXPECT_EQ(PieceLength(config), 1024);
}

// Pieces are multiples of the chunk of 16, so the prompt's logits are the same bits however it is cut.
TEST(Generator, PiecesOfThePromptDoNotChangeABit) {
  for (const LayerKind kind : AllKinds()) {
    const LanguageModel model = TinyModel(kind);
    const std::vector<int32_t> prompt = RandomTokens(130);
    Generator whole(model, 512);
    whole.Read(prompt);
    const std::vector<int32_t> continuation = Generated(whole, {.sampling = kGreedy, .max_tokens = 20});
    ASSERT_EQ(continuation.size(), 20u);
    Generator first(model, 512);
    first.Read(prompt);
    for (const int64_t piece : {16, 48}) {
      Generator pieces(model, piece);
      pieces.Read(prompt);
      EXPECT_EQ(Logits(pieces), Logits(first)) << NameOf(kind) << " piece " << piece;
      EXPECT_EQ(GeneratedAfter(model, prompt, piece, {.sampling = kGreedy, .max_tokens = 20}), continuation);
    }
  }
}

TEST(Generator, APromptMayComeInSeveralCalls) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> prompt = RandomTokens(100);
  const std::span<const int32_t> all(prompt);
  Generator whole(model), parts(model);
  whole.Read(all);
  parts.Read(all.first(64));
  parts.Read({});
  parts.Read(all.subspan(64));
  EXPECT_EQ(Logits(whole), Logits(parts));
  EXPECT_EQ(parts.state().position, 100);
}

TEST(Generator, IsFixedByItsSeed) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> prompt = RandomTokens(40);
  GenerationOptions options = {.sampling = {.temperature = 1, .seed = 1}, .max_tokens = 30};
  const std::vector<int32_t> first = GeneratedAfter(model, prompt, 0, options);
  EXPECT_EQ(GeneratedAfter(model, prompt, 0, options), first);
  options.sampling.seed = 2;
  EXPECT_NE(GeneratedAfter(model, prompt, 0, options), first);
}

TEST(Generator, StopsWhereItShould) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> prompt = RandomTokens(40);
  GenerationOptions options = {.sampling = {.temperature = 1, .seed = 1}, .max_tokens = 30};
  const std::vector<int32_t> free_run = GeneratedAfter(model, prompt, 0, options);

  Generator generator(model);
  generator.Read(prompt);
  GenerationStats stats = generator.Generate(options, nullptr);
  EXPECT_EQ(stats.stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(stats.generated_tokens, 30);
  EXPECT_EQ(stats.prompt_tokens, 40);
  EXPECT_EQ(generator.state().position, 70);
  ASSERT_EQ(stats.selected_share.size(), 2u);
  for (const double share : stats.selected_share) {
    EXPECT_GT(share, 0.0);
    EXPECT_LE(share, 1.0);
    EXPECT_NEAR(share * 70, std::round(share * 70), 1e-9);  // a whole number of the 70 tokens
  }

  options.stop_tokens = {-1, free_run[12]};
  const auto first_stop = std::find(free_run.begin(), free_run.end(), free_run[12]);
  EXPECT_EQ(GeneratedAfter(model, prompt, 0, options), std::vector<int32_t>(free_run.begin(), first_stop));

  options.stop_tokens.clear();
  Generator cut(model);
  cut.Read(prompt);
  stats = cut.Generate(options, [](int32_t) { return false; });
  EXPECT_EQ(stats.stop_reason, StopReason::kCallback);
  EXPECT_EQ(stats.generated_tokens, 1);
}

TEST(Generator, DrawsBelowTheVocabularyLimit) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const std::vector<int32_t> tokens =
      GeneratedAfter(model, RandomTokens(5), 0, {.sampling = {.temperature = 2}, .max_tokens = 60, .vocab_limit = 7});
  EXPECT_EQ(tokens.size(), 60u);
  for (const int32_t token : tokens) EXPECT_LT(token, 7);
}

// A snapshot after a stop in the middle of a prompt or an answer is that of what was read.
TEST(Generator, StopsBetweenPiecesAndBetweenTokens) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const std::vector<int32_t> prompt = RandomTokens(100);
  Generator cut(model, 16), whole(model, 16);
  cut.KeepTokens();
  int asked = 0;
  cut.StopWhen([&] { return ++asked > 3; });
  EXPECT_EQ(cut.Read(prompt), 48);
  whole.Read(std::span(prompt).first(48));
  EXPECT_EQ(Logits(cut), Logits(whole));
  EXPECT_EQ(cut.Snapshot().tokens, std::vector<int32_t>(prompt.begin(), prompt.begin() + 48));
  EXPECT_EQ(cut.Snapshot().token_digest, whole.Snapshot().token_digest);
  EXPECT_TRUE(whole.Snapshot().tokens.empty());
  EXPECT_EQ(cut.Read(prompt), 0);
  asked = -4;  // seven draws
  const GenerationStats stats = cut.Generate({.sampling = kGreedy}, nullptr);
  EXPECT_EQ(stats.stop_reason, StopReason::kStopped);
  EXPECT_EQ(stats.generated_tokens, 7);
  EXPECT_EQ(cut.Snapshot().tokens.size(), 55u);
}

TEST(Generator, ContinuesASnapshot) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  Generator first(model), second(model);
  first.Read(RandomTokens(50));
  second.Read(RandomTokens(7, 3));
  second.Continue(first.Snapshot());
  EXPECT_EQ(Generated(second, {.sampling = {}, .max_tokens = 20}),
            Generated(first, {.sampling = {}, .max_tokens = 20}));
  EXPECT_EQ(second.Snapshot().token_digest, first.Snapshot().token_digest);
  SequenceSnapshot bare = first.Snapshot();
  bare.logits.clear();
  second.Continue(bare);
  EXPECT_THROW(second.Generate({}, nullptr), UserError);
  second.Read(std::vector<int32_t>{5});
  first.Read(std::vector<int32_t>{5});
  EXPECT_EQ(Logits(first), Logits(second));
}

// Each token of the prompt once and for each time, 2 less; that changes some of the choices.
TEST(Generator, PenaltiesSeeThePrompt) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const SamplingOptions penalties{.temperature = 0, .presence_penalty = 2, .frequency_penalty = 2};
  const auto largest = [](const std::vector<float>& logits) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  int changed = 0;
  for (uint32_t stream = 0; stream < 20; ++stream) {
    const std::vector<int32_t> prompt = RandomTokens(100, stream);
    Generator generator(model);
    generator.KeepTokens();
    generator.Read(prompt);
    std::vector<float> expected = Logits(generator);
    const int32_t plain = largest(expected);
    for (const int32_t token : prompt) expected[static_cast<size_t>(token)] -= 2;
    for (const int32_t token : std::set<int32_t>(prompt.begin(), prompt.end())) {
      expected[static_cast<size_t>(token)] -= 2;
    }
    EXPECT_EQ(Generated(generator, {.sampling = penalties, .max_tokens = 1}), std::vector<int32_t>{largest(expected)});
    changed += plain != largest(expected) ? 1 : 0;
  }
  EXPECT_GT(changed, 2);
}

TEST(Generator, TellsLogprobsOfWhatItChooses) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  Generator generator(model);
  generator.Read(RandomTokens(40));
  const std::vector<float> logits = Logits(generator);
  std::vector<TokenLogprobs> told;
  GenerationOptions options{.sampling = kGreedy, .max_tokens = 3};
  options.on_logprobs = [&](const TokenLogprobs& logprobs) { told.push_back(logprobs); };
  options.top_logprobs = 2;
  const std::vector<int32_t> tokens = Generated(generator, options);
  ASSERT_EQ(told.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(told[i].chosen.token, tokens[i]);
    EXPECT_EQ(told[i].top.at(0).token, tokens[i]);  // greedy
    EXPECT_LT(told[i].top.at(1).logprob, told[i].top.at(0).logprob);
  }
  EXPECT_EQ(told[0].chosen.logprob, LogprobsOf(logits, tokens[0], 0).chosen.logprob);
}

TEST(Generator, AMaskSeesWhatWasGenerated) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  Generator generator(model);
  generator.Read(RandomTokens(40));
  GenerationOptions options{.sampling = {}, .max_tokens = 5};
  options.mask = [](std::span<const int32_t> generated, std::vector<bool>& allowed) {  // 100, 101, 102, ...
    allowed.assign(allowed.size(), false);
    allowed[generated.empty() ? 100 : static_cast<size_t>(generated.back()) + 1] = true;
  };
  EXPECT_EQ(Generated(generator, options), (std::vector<int32_t>{100, 101, 102, 103, 104}));
}

TEST(Generator, NeedsATokenToStartFrom) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  Generator generator(model);
  EXPECT_THROW(generator.Generate({}, nullptr), UserError);
}

TEST(SequenceReader, SeveralSequencesStepTogether) {
  for (const LayerKind kind : AllKinds()) {
    const LanguageModel model = TinyModel(kind);
    SequenceReader reader(model);
    std::vector<SequenceState> together(3, model.NewState());
    for (uint32_t i = 0; i < 3; ++i) reader.Read(RandomTokens(10 + 17 * i, i), together[i]);
    std::vector<SequenceState> alone = together;
    const std::vector<int32_t> next = {3, 200, 77};
    Tensor logits({3, 256}), one({1, 256});
    for (int step = 0; step < 3; ++step) {
      reader.Step(next, std::vector<SequenceState*>{&together[0], &together[1], &together[2]}, logits.Matrix());
      for (size_t i = 0; i < 3; ++i) {
        SequenceState* state = &alone[i];
        reader.Step({&next[i], 1}, {&state, 1}, one.Matrix());
        const float* row = logits.F32() + 256 * i;
        EXPECT_EQ(std::vector<float>(row, row + 256), std::vector<float>(one.F32(), one.F32() + 256))
            << NameOf(kind) << " sequence " << i << " step " << step;
      }
    }
    EXPECT_EQ(together[2].position, 10 + 17 * 2 + 3);
  }
}

TEST(SequenceReader, RefusesTokensOutsideTheVocabulary) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  SequenceReader reader(model);
  SequenceState state = model.NewState();
  for (const int32_t bad : {-1, 256}) EXPECT_THROW(reader.Read(std::vector<int32_t>{1, bad}, state), UserError);
}

}  // namespace
}  // namespace taipan
