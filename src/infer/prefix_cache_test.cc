#include "infer/prefix_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/test_folder.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

using Tokens = std::vector<int32_t>;
constexpr int64_t kPiece = 32, kChunk = 16;  // of the tiny models

Tokens Joined(std::initializer_list<Tokens> parts) {
  Tokens all;
  for (const Tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// The logits after a text and what a greedy continuation draws and leaves behind.
struct Continuation {
  std::vector<float> first, last;
  bool operator==(const Continuation&) const = default;
};
Continuation Continue(Generator& generator) {
  Continuation c{{generator.logits().begin(), generator.logits().end()}, {}};
  generator.Generate({.sampling = {.temperature = 0}, .max_tokens = 3}, nullptr);
  c.last.assign(generator.logits().begin(), generator.logits().end());
  return c;
}
Continuation Fresh(const LanguageModel& model, const Tokens& tokens) {
  Generator generator(model, kPiece);
  generator.Read(tokens);
  return Continue(generator);
}

class CachedReader {
 public:
  explicit CachedReader(const LanguageModel& model, const PrefixCacheOptions& options = {})
      : model_(model), cache_(model, options), generator_(model, kPiece) {
    generator_.KeepTokens();
  }
  // Expects the bits of reading everything.
  PrefixUse Read(const Tokens& tokens, const std::vector<int64_t>& ends = {}) {
    const PrefixUse use = cache_.Read(tokens, ends, generator_);
    EXPECT_TRUE(use.complete);
    EXPECT_EQ(use.tokens, static_cast<int64_t>(tokens.size()));
    EXPECT_EQ(use.reason.empty(), use.reused == use.tokens);
    EXPECT_EQ(generator_.state().position, use.tokens);
    EXPECT_EQ(Continue(generator_), Fresh(model_, tokens)) << tokens.size() << " tokens, " << use.reused << " reused";
    return use;
  }
  PrefixCache& cache() { return cache_; }
  Generator& generator() { return generator_; }

 private:
  const LanguageModel& model_;
  PrefixCache cache_;
  Generator generator_;
};

LanguageModel PureAttention(DType dtype = DType::kF32) {
  ModelConfig config = TinyConfig(LayerKind::kAttention);
  config.layer_pattern = {LayerKind::kAttention, LayerKind::kAttention};
  LanguageModel model = TinyModel(config);
  model.SetDType(dtype);
  return model;
}

TEST(PrefixCache, TheSameTextIsReadOnce) {
  for (const LayerKind kind : AllKinds()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      LanguageModel model = TinyModel(kind);
      model.SetDType(dtype);
      CachedReader reader(model);
      const Tokens text = RandomTokens(101);
      const PrefixUse first = reader.Read(text);
      EXPECT_EQ(first.reused, 0);
      EXPECT_EQ(first.reason, "the cache is empty");
      EXPECT_EQ(reader.Read(text).reused, 101) << NameOf(kind);
      EXPECT_EQ(reader.cache().reused_tokens(), 101);
    }
  }
}

// The end of the shorter text lies off the grid of chunks and must not serve the longer one.
TEST(PrefixCache, LongerTextsGoOnFromTheGrid) {
  for (const LayerKind kind : AllKinds()) {
    const LanguageModel model = TinyModel(kind);
    CachedReader reader(model);
    const Tokens text = RandomTokens(101), more = Joined({text, RandomTokens(40, 2)});
    reader.Read(text);
    const PrefixUse use = reader.Read(more);
    EXPECT_EQ(use.reused, 96) << NameOf(kind);
    EXPECT_EQ(use.reason, "it shares 101 tokens with a text in the cache, whose last checkpoint before that is at 96");
    EXPECT_EQ(reader.Read(text).reused, 101);
  }
}

TEST(PrefixCache, EndsOfMessagesAndDoublingDistancesAreCheckpoints) {
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  CachedReader reader(model);
  const Tokens text = RandomTokens(500);
  reader.Read(text, {100, 333});
  for (const auto& [edited, reused] : std::map<int64_t, int64_t>{{499, 496},
                                                                 {490, 480},
                                                                 {450, 448},
                                                                 {440, 416},
                                                                 {400, 352},
                                                                 {352, 352},
                                                                 {351, 320},
                                                                 {300, 224},
                                                                 {200, 96},
                                                                 {95, 0}}) {
    Tokens changed = text;
    changed[static_cast<size_t>(edited)] = (changed[static_cast<size_t>(edited)] + 1) % 256;
    PrefixCache fresh(model);  // one that has seen nothing but the first text
    Generator generator(model, kPiece);
    fresh.Read(text, std::vector<int64_t>{100, 333}, generator);
    EXPECT_EQ(fresh.Read(changed, {}, generator).reused, reused) << edited;
    reader.Read(changed);
  }
}

// Keys of every position are there: one checkpoint serves every beginning, also what was read token by token. In bf16
// few rows round otherwise, and no piece of 32 tokens is cut into eight and the rest.
TEST(PrefixCache, AttentionAloneGoesBackAnywhere) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const bool exact = dtype == DType::kF32;
    const LanguageModel model = PureAttention(dtype);
    CachedReader reader(model);
    const Tokens text = RandomTokens(301);
    reader.Read(text);
    EXPECT_EQ(reader.cache().checkpoints(), 1);
    reader.cache().Keep(reader.generator());  // with three tokens more
    EXPECT_EQ(reader.cache().checkpoints(), 1);
    const Tokens all(reader.generator().tokens().begin(), reader.generator().tokens().end());
    EXPECT_EQ(reader.Read(Joined({all, RandomTokens(20, 3)})).reused, exact ? 304 : 297);
    EXPECT_EQ(reader.Read(Joined({Tokens(text.begin(), text.begin() + 77), RandomTokens(9, 4)})).reused,
              exact ? 77 : 54);
    EXPECT_EQ(reader.Read(text).reused, exact ? 300 : 301);
  }
}

TEST(PrefixCache, WhatWasReadTokenByTokenIsNotKeptOnAGrid) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  CachedReader reader(model);
  const Tokens text = RandomTokens(2 * kChunk - 3);
  reader.Read(text);  // and three tokens more: on the grid
  const int64_t before = reader.cache().checkpoints();
  reader.cache().Keep(reader.generator());
  EXPECT_EQ(reader.cache().checkpoints(), before);
  const Tokens all(reader.generator().tokens().begin(), reader.generator().tokens().end());
  EXPECT_EQ(reader.Read(Joined({all, RandomTokens(20, 3)})).reused, kChunk);
}

TEST(PrefixCache, WithQuantizedWeightsNoFewRowsAreCutOff) {
  for (const bool attention : {false, true}) {
    LanguageModel model = attention ? PureAttention() : TinyModel(LayerKind::kMamba2);
    QuantizeMatrices(model);
    CachedReader reader(model);
    const Tokens text = RandomTokens(117);
    reader.Read(text);
    reader.cache().Keep(reader.generator());
    EXPECT_EQ(reader.Read(Joined({text, RandomTokens(3, 2)})).reused, attention ? 108 : 96);
    EXPECT_EQ(reader.Read(Joined({text, RandomTokens(30, 2)})).reused, attention ? 117 : 96);
    EXPECT_EQ(reader.Read(text).reused, 117);
    EXPECT_EQ(reader.Read(Tokens(text.begin(), text.begin() + 97)).reused, attention ? 81 : 96);
  }
}

TEST(PrefixCache, TheBudgetDropsWhatWasUsedLongestAgo) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const int64_t state = model.NewState().bytes();
  const PrefixCacheOptions options{.memory_bytes = 4 * state};
  CachedReader reader(model, options);
  const Tokens a = RandomTokens(40, 1), b = RandomTokens(40, 2), c = RandomTokens(40, 3);
  reader.Read(a);  // two checkpoints each
  reader.Read(b);
  EXPECT_EQ(reader.Read(a).reused, 40);
  reader.Read(c);
  EXPECT_LE(reader.cache().bytes(), options.memory_bytes);
  EXPECT_EQ(reader.Read(a).reused, 40);
  const PrefixUse gone = reader.Read(b);
  EXPECT_EQ(gone.reused, 0);
  EXPECT_THAT(gone.reason, StartsWith("the checkpoint at 40 was dropped, because the cache may take "));
  EXPECT_EQ(reader.Read(RandomTokens(40, 4)).reason, "no text in the cache begins like this one");
  CachedReader none(model, {.memory_bytes = state / 2});
  none.Read(a);
  EXPECT_EQ(none.Read(a).reused, 0);
  EXPECT_EQ(none.cache().bytes(), 0);
}

TEST(PrefixCache, TheFolderKeepsThemForOthers) {
  const TestFolder folder;
  const LanguageModel model = TinyModel(LayerKind::kSelectiveAttention);
  const Tokens text = RandomTokens(101), more = Joined({text, RandomTokens(40, 2)});
  const PrefixCacheOptions options{.folder = folder / "cache"};
  {
    CachedReader reader(model, options);
    reader.Read(text);
    reader.cache().Flush();
  }
  {
    CachedReader reader(model, options);
    EXPECT_EQ(reader.Read(more).reused, 96);
    EXPECT_EQ(reader.Read(text).reused, 101);
  }
  const LanguageModel other = TinyModel(LayerKind::kSelectiveAttention, 2);
  EXPECT_EQ(CachedReader(other, options).Read(text).reused, 0);
  for (const std::string& name : ListDirectory(folder / "cache")) {
    std::ofstream(folder / "cache/" + name, std::ios::in | std::ios::ate) << "x";
  }
  EXPECT_EQ(CachedReader(model, options).Read(text).reused, 0);
}

TEST(PrefixCache, AFileThatIsDamagedMeanwhileIsNamed) {
  const TestFolder folder;
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const PrefixCacheOptions options{.folder = folder.path()};
  const Tokens text = RandomTokens(kChunk);
  CachedReader writer(model, options);
  writer.Read(text);
  writer.cache().Flush();
  CachedReader reader(model, options);
  ASSERT_EQ(ListDirectory(folder.path()).size(), 1u);
  const std::string file = folder / ListDirectory(folder.path())[0];
  std::string bytes = ReadFile(file);
  bytes.back() ^= 1;
  WriteFileAtomically(file, bytes);
  const PrefixUse use = reader.Read(text);
  EXPECT_EQ(use.reused, 0);
  EXPECT_THAT(use.reason, HasSubstr(file + ": the state is damaged"));
}

TEST(PrefixCache, TheFolderHasABudgetToo) {
  const TestFolder folder;
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const int64_t state = model.NewState().bytes();
  CachedReader reader(model, {.memory_bytes = state, .folder = folder.path(), .folder_bytes = 4 * state});
  for (uint32_t i = 0; i < 6; ++i) reader.Read(RandomTokens(kChunk, i));
  reader.cache().Flush();
  EXPECT_GE(ListDirectory(folder.path()).size(), 1u);
  EXPECT_LE(ListDirectory(folder.path()).size(), 3u);
  EXPECT_EQ(CachedReader(model, {.folder = folder.path()}).Read(RandomTokens(kChunk, 5)).reused, kChunk);
  EXPECT_EQ(CachedReader(model, {.folder = folder.path()}).Read(RandomTokens(kChunk, 0)).reused, 0);
}

// Random conversations with edits under small budgets, with and without a folder.
TEST(PrefixCache, NothingThatHappensChangesABit) {
  enum { kPlain, kNarrow, kQuantized, kAll };
  for (const LayerKind kind : {LayerKind::kMamba2, LayerKind::kSelectiveAttention, LayerKind::kAttention}) {
    for (int weights = kPlain; weights < kAll; ++weights) {
      const bool with_folder = weights != kNarrow;
      const TestFolder folder;
      SCOPED_TRACE(fmt::format("{} {}", NameOf(kind), weights));
      LanguageModel model = kind == LayerKind::kAttention ? PureAttention() : TinyModel(kind);
      if (weights == kNarrow) model.SetDType(DType::kBF16);
      if (weights == kQuantized) QuantizeMatrices(model);
      PrefixCacheOptions options{.memory_bytes = 6 * model.NewState().bytes() + 100000, .folder_bytes = 200000};
      if (with_folder) options.folder = folder.path();
      CachedReader reader(model, options);
      Tokens text = RandomTokens(30);
      const RandomKey key{7, kTestStream};
      for (uint64_t step = 0; step < 10; ++step) {
        const size_t cut = RandomBelow(key, 3 * step, text.size() + 1);
        if (RandomBelow(key, 3 * step + 1, 3) == 0) text.resize(cut);
        const Tokens more =
            RandomTokens(1 + static_cast<int64_t>(RandomBelow(key, 3 * step + 2, 60)), static_cast<uint32_t>(step % 5));
        text.insert(text.end(), more.begin(), more.end());
        reader.Read(text, {static_cast<int64_t>(cut)});
        reader.cache().Keep(reader.generator());
      }
      EXPECT_GT(reader.cache().reused_tokens(), 0);
      EXPECT_LE(reader.cache().bytes(), options.memory_bytes);
    }
  }
}

TEST(PrefixCache, AStopLeavesWhatWasRead) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  CachedReader reader(model);
  const Tokens text = RandomTokens(200);
  int asked = 0;
  reader.generator().StopWhen([&] { return ++asked > 3; });
  const PrefixUse use = reader.cache().Read(text, {}, reader.generator());
  EXPECT_FALSE(use.complete);
  EXPECT_EQ(reader.generator().state().position, 96);
  reader.generator().StopWhen(nullptr);
  EXPECT_GT(reader.Read(text).reused, 0);
}

}  // namespace
}  // namespace taipan
