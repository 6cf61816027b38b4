#include "infer/lookahead.h"

#include <gtest/gtest.h>

#include "base/content_hash.h"
#include "infer/generator.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using Tokens = std::vector<int32_t>;

// Of everything that a state remembers.
uint64_t DigestOf(const SequenceState& state) {
  ContentHash hash;
  hash.Add(&state.position, sizeof state.position);
  for (const LayerState& layer : state.layers) {
    for (const Tensor* fixed : {&layer.ssm, &layer.conv}) hash.Add(fixed->data(), fixed->bytes());
    std::vector<KeySpan> spans(static_cast<size_t>(layer.kv.pages()));
    spans.resize(static_cast<size_t>(layer.kv.Spans(0, spans.data())));
    const int64_t range[] = {layer.kv.first(), layer.kv.end(), SizeOf(layer.kv.dtype())};
    hash.Add(range, sizeof range);
    for (const KeySpan& span : spans) {
      for (const void* rows : {span.k, span.v})
        hash.Add(rows, span.count * layer.kv.width() * SizeOf(layer.kv.dtype()));
    }
  }
  return hash.Finish();
}

std::vector<float> RowOf(const Tensor& logits, int64_t row) {
  const int64_t vocab = logits.shape()[1];
  return {logits.F32() + row * vocab, logits.F32() + (row + 1) * vocab};
}

// Six tokens after `start` others, as steps and ahead: the same logits, and the same states wherever it is cut.
void ExpectStepsAhead(const LanguageModel& model, int64_t start) {
  const Tokens tokens = RandomTokens(6, 3);
  SequenceReader reader(model);
  SequenceState state = model.NewState();
  reader.Read(RandomTokens(start), state);
  SequenceState stepped = state, *const pointer = &stepped;
  std::vector<uint64_t> states;
  Tensor one({1, 256}), all({6, 256});
  std::vector<std::vector<float>> expected;
  for (const int32_t token : tokens) {
    states.push_back(DigestOf(stepped));
    reader.Step({&token, 1}, {&pointer, 1}, one.Matrix());
    expected.push_back(RowOf(one, 0));
  }
  states.push_back(DigestOf(stepped));
  for (int64_t taken = 0; taken <= 6; taken += 2) {
    SequenceState ahead = state;
    reader.ReadAhead(tokens, ahead, all.Matrix());
    for (int64_t row = 0; row < 6; ++row) EXPECT_EQ(RowOf(all, row), expected[static_cast<size_t>(row)]) << row;
    EXPECT_EQ(DigestOf(ahead), states[0]);
    for (const auto& [from, count] : {std::pair{int64_t{0}, taken / 2}, {taken / 2, taken - taken / 2}}) {
      if (count > 0) reader.Accept(from, count, ahead);
    }
    EXPECT_EQ(DigestOf(ahead), states[static_cast<size_t>(taken)]) << taken;
  }
}

// Within and across chunks of 16, the window of 24 and pages of 128.
TEST(ReadAhead, GivesTheBitsOfSteps) {
  for (const LayerKind kind : AllKinds()) {
    SCOPED_TRACE(NameOf(kind));
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      LanguageModel model = TinyModel(kind);
      model.SetDType(dtype);
      for (const int64_t start : {0, 13, 22, 126}) ExpectStepsAhead(model, start);
    }
  }
  for (const std::string& pattern : kPatterns) {
    SCOPED_TRACE(pattern);
    for (const Kept kept : {Kept::kQ8, Kept::kQ4}) ExpectStepsAhead(TinyPatternModel(pattern, kept), 22);
  }
}

struct Written {
  Tokens tokens;
  std::vector<double> logprobs;
  GenerationStats stats;
  SequenceSnapshot after;
  std::vector<uint64_t> states;  // seen by the callback now and then
};

Written Generate(const LanguageModel& model, const Tokens& prompt, GenerationOptions options, bool drafts,
                 int64_t most = 1000) {
  Generator generator(model);
  generator.KeepTokens();
  generator.Read(prompt);
  options.draft = {.match = drafts ? 2 : 0, .always = true};
  Written run;
  options.on_logprobs = [&](const TokenLogprobs& of) { run.logprobs.push_back(of.chosen.logprob); };
  run.stats = generator.Generate(options, [&](int32_t token) {
    run.tokens.push_back(token);
    if (run.tokens.size() % 7 == 0) run.states.push_back(DigestOf(generator.state()));
    return std::ssize(run.tokens) < most;
  });
  run.after = generator.Snapshot();
  return run;
}

void ExpectSame(const Written& with, const Written& without) {
  EXPECT_EQ(with.tokens, without.tokens);
  EXPECT_EQ(with.logprobs, without.logprobs);
  EXPECT_EQ(with.states, without.states);
  EXPECT_EQ(DigestOf(with.after.state), DigestOf(without.after.state));
  EXPECT_EQ(with.after.logits, without.after.logits);
  EXPECT_EQ(with.after.tokens, without.after.tokens);
  EXPECT_EQ(with.after.token_digest, without.after.token_digest);
  EXPECT_EQ(with.stats.selected_share, without.stats.selected_share);
  EXPECT_EQ(with.stats.generated_tokens, without.stats.generated_tokens);
  EXPECT_EQ(with.stats.stop_reason, without.stats.stop_reason);
}

class Drafts : public testing::TestWithParam<Kept> {};

// Tokens that a bias prefers repeat, with others between them.
TEST_P(Drafts, ChangeNoToken) {
  GenerationOptions greedy{.sampling = {.temperature = 0}, .max_tokens = 60};
  GenerationOptions drawn{.sampling = {.temperature = 0.7, .seed = 5}, .max_tokens = 60};
  drawn.sampling.logit_bias = {{0, 22}, {1, 20}, {2, 18}};
  GenerationOptions penalized = drawn;
  penalized.sampling.frequency_penalty = 0.05;
  penalized.stop_tokens = {77};
  Tokens prompt = RandomTokens(20);
  prompt.insert(prompt.end(), prompt.begin(), prompt.end());
  for (const std::string& pattern : kPatterns) {
    SCOPED_TRACE(pattern);
    const LanguageModel model = TinyPatternModel(pattern, GetParam());
    int64_t drafted = 0, accepted = 0;
    for (const GenerationOptions& options : {greedy, drawn, penalized}) {
      const Written with = Generate(model, prompt, options, true);
      ExpectSame(with, Generate(model, prompt, options, false));
      drafted += with.stats.draft.drafted;
      accepted += with.stats.draft.accepted;
    }
    EXPECT_GT(accepted, 20);
    EXPECT_GT(drafted, accepted);
    // Ended by the callback in the middle of a draft.
    for (const int64_t most : {8, 21, 22, 23}) {
      ExpectSame(Generate(model, prompt, drawn, true, most), Generate(model, prompt, drawn, false, most));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Weights, Drafts, testing::ValuesIn(AllKept()),
                         [](const auto& kept) { return NameOf(kept.param); });

TEST(PromptLookup, ProposesWhatFollowedLast) {
  PromptLookup lookup(2);
  const auto propose = [&](const Tokens& text, int64_t most) {
    const std::span<const int32_t> out = lookup.Propose(text, most);
    return Tokens(out.begin(), out.end());
  };
  EXPECT_EQ(propose({}, 3), Tokens());
  EXPECT_EQ(propose({1}, 3), Tokens());
  EXPECT_EQ(propose({1, 2, 7, 1}, 3), Tokens());
  EXPECT_EQ(propose({1, 2, 7, 1, 2}, 3), (Tokens{7, 1, 2}));
  EXPECT_EQ(propose({1, 2, 7, 1, 2}, 7), (Tokens{7, 1, 2, 7, 1, 2, 7}));
  EXPECT_EQ(propose({1, 2, 7, 1, 2, 8, 9, 1, 2}, 2), (Tokens{8, 9}));
  EXPECT_EQ(propose({1, 2, 7, 1, 2, 8, 9, 1, 2, 2}, 2), Tokens());
}

TEST(PromptLookup, FindsEveryPlaceOfALongText) {
  const Tokens text = RandomTokens(20000, 1, 50000);
  for (int64_t i = 0; i + 4 <= std::ssize(text); i += 970) {
    const auto at = text.begin() + i;
    Tokens grown = text;
    grown.insert(grown.end(), at, at + 2);
    PromptLookup lookup(2);
    const std::span<const int32_t> found = lookup.Propose(grown, 2);
    ASSERT_EQ(Tokens(found.begin(), found.end()), Tokens(at + 2, at + 4)) << i;
  }
}

// Of 10,000 tokens, which take a second each without drafts: how long they take.
double SecondsOf(double accepted_share, double seconds_a_row, int64_t* drafts) {
  DraftControl control(7);
  double seconds = 0;
  int64_t tokens = 0, drawn = 0;
  while (tokens < 10000) {
    const int64_t length = control.Length();
    if (length == 0) {
      control.Plain(1);
      seconds += 1;
      ++tokens;
      continue;
    }
    ++*drafts;
    int64_t accepted = 0;
    while (accepted < length && RandomUniform({1, kTestStream}, static_cast<uint64_t>(drawn++)) < accepted_share) {
      ++accepted;
    }
    const double took = 1 + seconds_a_row * static_cast<double>(length);
    control.Ahead(took, length, accepted);
    seconds += took;
    tokens += accepted + 1;
  }
  return seconds;
}

TEST(DraftControl, SwitchesItselfOffWhereItLoses) {
  int64_t none = 0, few = 0, most = 0, dear = 0;
  EXPECT_LT(SecondsOf(0, 0.3, &none), 10000 * 1.02);
  EXPECT_LT(none, 100);
  EXPECT_LT(SecondsOf(0.1, 0.3, &few), 10000 * 1.02);
  EXPECT_LT(SecondsOf(0.5, 2, &dear), 10000 * 1.05);
  EXPECT_LT(SecondsOf(0.9, 0.1, &most), 10000 * 0.4);
  EXPECT_GT(most, 1000);
}

}  // namespace
}  // namespace taipan
