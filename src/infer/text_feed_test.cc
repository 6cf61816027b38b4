#include "infer/text_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "infer/scoring.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

std::string Text(int64_t bytes) {
  std::string text;
  for (int64_t i = 0; i < bytes; ++i) text += static_cast<char>(' ' + (i * i / 7 + i % 11) % 90);
  return text;
}

struct Reading {
  std::vector<float> logits, logprobs = {0};  // entry 0 unused
  int64_t position = 0;
};

// In slices of `slice` bytes; resume_at: until then by one generator, saved and gone on from by another.
Reading Read(const LanguageModel& model, const std::string& text, size_t slice, int64_t resume_at = 0) {
  const ByteTokenizer tokenizer;
  Reading reading;
  const auto record = [&](int64_t first, std::span<const float> part) {
    reading.logprobs.resize(static_cast<size_t>(first));  // a run that was stopped may have been one ahead
    reading.logprobs.insert(reading.logprobs.end(), part.begin(), part.end());
  };
  SequenceSnapshot snapshot;
  if (resume_at > 0) {
    Generator first(model, 32);
    first.OnLogprobs(record);
    first.StopWhen([&] { return first.state().position >= resume_at; });
    TextFeed feed(tokenizer, {}, first, 16);
    EXPECT_FALSE(feed.Append(text));
    snapshot = first.Snapshot();
  }
  Generator generator(model, 32);
  generator.OnLogprobs(record);
  if (resume_at > 0) generator.Continue(std::move(snapshot));
  TextFeed feed(tokenizer, {}, generator, 16);
  if (resume_at > 0) feed.SkipRead();
  for (size_t at = 0; at < text.size(); at += slice) EXPECT_TRUE(feed.Append(text.substr(at, slice)));
  EXPECT_TRUE(feed.Finish("text"));
  EXPECT_EQ(feed.tokens(), static_cast<int64_t>(text.size()));
  EXPECT_EQ(feed.last(), static_cast<uint8_t>(text.back()));
  reading.position = generator.state().position;
  reading.logits.assign(generator.logits().begin(), generator.logits().end());
  return reading;
}

// The bits of reading and scoring the whole, however the text comes and wherever it was interrupted.
TEST(TextFeed, ReadsAndScoresAsTheWhole) {
  const ByteTokenizer tokenizer;
  const std::string text = Text(300);
  for (const LayerKind kind : {LayerKind::kSelectiveAttention, LayerKind::kMamba2, LayerKind::kAttention}) {
    const LanguageModel model = TinyModel(kind);
    std::vector<float> expected = {0};
    ScoreOptions options{.piece = 32};
    options.on_logprobs = [&](int64_t, std::span<const float> part) {
      expected.insert(expected.end(), part.begin(), part.end());
    };
    ScoreTokens(model, tokenizer.Encode(text), options);
    const Reading whole = Read(model, text, 1000);
    EXPECT_EQ(whole.position, 300);
    EXPECT_EQ(whole.logprobs, expected);
    for (const size_t slice : {1, 31, 32, 33, 100}) {
      const Reading slices = Read(model, text, slice);
      EXPECT_EQ(slices.logits, whole.logits) << slice;
      EXPECT_EQ(slices.logprobs, expected) << slice;
    }
    const Reading resumed = Read(model, text, 50, 96);
    EXPECT_EQ(resumed.logits, whole.logits);
    EXPECT_EQ(resumed.logprobs.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(resumed.logprobs[i], expected[i], 1e-5) << i;
  }
}

TEST(TextFeed, ATextThatTheStateHasNotReadIsRefused) {
  const ByteTokenizer tokenizer;
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const std::string text = Text(100);
  Generator generator(model);
  generator.Read(tokenizer.Encode(text));
  const auto error = [&](const std::string& other) {
    return UserErrorOf([&] {
      TextFeed feed(tokenizer, {}, generator);
      feed.SkipRead();
      feed.Append(other);
      feed.Finish("book.txt");
    });
  };
  EXPECT_EQ(error(text), "");
  EXPECT_THAT(error("x" + text), HasSubstr("the state has read another text"));
  EXPECT_THAT(error(text.substr(0, 99)), HasSubstr("book.txt: the text is shorter than what the state has read"));
}

}  // namespace
}  // namespace taipan
