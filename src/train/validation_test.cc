#include "train/validation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/test_folder.h"
#include "train/test_model.h"

namespace taipan {
namespace {

// Two bytes a token, so that bits a byte are half of bits a token.
class PairTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 97; }
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i + 1 < text.size(); i += 2) ids.push_back(text[i] % 97);
    return ids;
  }
  std::string_view TokenBytes(int32_t) const override { return "ab"; }
  std::optional<int32_t> TokenId(std::string_view) const override { return std::nullopt; }
};

// Mean -log p over windows, one forward each.
double MeanByWindow(const LanguageModel& model, const std::vector<int32_t>& tokens, int64_t context, int64_t targets) {
  double sum = 0;
  ForwardContext forward;
  for (int64_t begin = 0; begin < targets; begin += context) {
    Batch batch;
    AppendWindow(batch, &tokens[static_cast<size_t>(begin)], std::min(context, targets - begin), 0);
    model.Forward(batch, {}, /*keep=*/false, forward);
    std::vector<float> logprobs(batch.tokens.size());
    sum += model.Score(forward, logprobs.data());
  }
  return sum / static_cast<double>(targets);
}

TEST(Validate, ScoresEveryTokenOnceInSequentialWindows) {
  const LanguageModel model = TestModel();
  const std::vector<int32_t> tokens = TestTokens(131);
  const Corpus corpus(tokens, 97, "valid");
  ForwardContext forward;
  for (const auto& [cap, targets] : std::vector<std::pair<int64_t, int64_t>>{{1000, 130}, {50, 50}, {24, 24}, {1, 1}}) {
    const ValidationOptions options{.context = 24, .rows = 2, .max_tokens = cap, .step = 7};
    const ValidMetrics m = Validate(model, corpus, nullptr, options, forward).value();
    EXPECT_EQ(m.tokens, targets);
    EXPECT_EQ(m.step, 7);
    // Rows of a batch do not depend on each other; what differs is the order of the final sum of doubles.
    EXPECT_NEAR(m.ce, MeanByWindow(model, tokens, 24, targets), 1e-9);
    EXPECT_TRUE(std::isnan(m.bits_per_byte));  // nobody knows the bytes of these tokens
    ASSERT_EQ(m.selected_share.size(), 1u);
    ASSERT_EQ(m.selected_share_noise.size(), 1u);
  }
}

TEST(Validate, BitsPerByteFollowTheTokenizer) {
  const LanguageModel model = TestModel(TestConfig(256));
  ForwardContext forward;
  const ValidationOptions options{.context = 24};
  const Corpus bytes(TestTokens(100, 256), 256, "bytes");
  const ValidMetrics m = Validate(model, bytes, nullptr, options, forward).value();
  EXPECT_DOUBLE_EQ(m.bits_per_byte, m.ce / std::numbers::ln2);
  EXPECT_EQ(BytesPerToken(bytes, nullptr), 1);

  const LanguageModel small = TestModel();
  const Corpus pairs(TestTokens(100), 97, "pairs");
  const PairTokenizer tokenizer;
  const ValidMetrics p = Validate(small, pairs, &tokenizer, options, forward).value();
  EXPECT_DOUBLE_EQ(p.bits_per_byte, p.ce / std::numbers::ln2 / 2);
  EXPECT_EQ(BytesPerToken(pairs, &tokenizer), 2);
  EXPECT_EQ(BytesPerToken(pairs, nullptr), 0);
}

TEST(Validate, TheEndOfADocumentIsNoText) {
  const TestFolder folder;
  WriteFileAtomically(folder / "a.jsonl", "{\"text\": \"" + std::string(40, 'a') + "\"}\n{\"text\": \"bb\"}\n");
  const PairTokenizer tokenizer;
  const Corpus corpus({folder / "a.jsonl"}, &tokenizer, 97, {.eos = 96});
  ASSERT_EQ(corpus.size(), 20 + 1 + 1 + 1);
  const LanguageModel model = TestModel();
  ForwardContext forward;
  const ValidMetrics m = Validate(model, corpus, &tokenizer, {.context = 24}, forward).value();
  EXPECT_DOUBLE_EQ(m.bits_per_byte, m.ce * 22 / std::numbers::ln2 / (2 * 20));
}

// A gate whose weights are zero selects everything or nothing without noise, and with noise by its bias alone.
TEST(Validate, SharesWithAndWithoutNoise) {
  LanguageModel model = TestModel();
  model.params().ForEach([&](Weight& weight) {
    if (weight.spec.name.ends_with("gate.weight")) weight.f32.Zero();
    if (weight.spec.name.ends_with("gate.bias")) weight.F32()[0] = 1.0f, weight.F32()[1] = 0.0f;
  });
  const Corpus corpus(TestTokens(40001), 97, "valid");
  ForwardContext forward;
  const ValidMetrics m = Validate(model, corpus, nullptr, {.context = 100, .max_tokens = 40000}, forward).value();
  EXPECT_EQ(m.selected_share[0], 0);
  // sigmoid(-1) over 10,000 or more draws: five standard deviations of a binomial are 0.022.
  EXPECT_NEAR(m.selected_share_noise[0], 0.26894, 0.022);
  const ValidMetrics silent =
      Validate(model, corpus, nullptr, {.context = 100, .max_tokens = 4000, .noise = false}, forward).value();
  EXPECT_EQ(silent.selected_share_noise, silent.selected_share);
}

TEST(Validate, GivesUpWhenAsked) {
  const LanguageModel model = TestModel();
  const Corpus corpus(TestTokens(1000), 97, "valid");
  ForwardContext forward;
  int forwards = 0;
  ValidationOptions options{.context = 24, .rows = 2};
  options.stop = [&] { return ++forwards > 3; };
  EXPECT_FALSE(Validate(model, corpus, nullptr, options, forward).has_value());
  EXPECT_EQ(forwards, 4);
}

}  // namespace
}  // namespace taipan
