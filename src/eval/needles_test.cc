#include "eval/needles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "eval/completions.h"
#include "infer/generator.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

const ByteTokenizer kBytes;

NeedleOptions Options(std::vector<int64_t> lengths, int64_t each = 2) {
  return {.lengths = std::move(lengths),
          .depths = {0, 0.5, 1},
          .each = each,
          .seed = 7,
          .text = "A ship came in. It was red! Who had sent it?\nNobody knew. The harbour was asleep."};
}

TEST(EvalNeedles, HideAFactAtEachDepth) {
  const NeedleTask task("passkey", Options({600, 1000}), kBytes);
  ASSERT_EQ(task.series().size(), 4u);
  ASSERT_EQ(task.prepared().items.size(), 12u);
  ASSERT_EQ(task.prepared().task.cells.size(), 6u);
  for (const NeedleTask::Series& series : task.series()) {
    double before = -1;
    for (size_t d = 0; d < 3; ++d) {
      const std::vector<int32_t> tokens = task.Tokens(series, d);
      ASSERT_EQ(std::ssize(tokens), series.length);
      const std::string text = kBytes.Decode(tokens);
      const std::string key = task.prepared().task.items[series.items[d]].answers.at(0);
      ASSERT_EQ(key.size(), 5u);
      EXPECT_TRUE(text.starts_with("There is an important info hidden"));
      EXPECT_TRUE(text.ends_with("\n\nWhat is the pass key? The pass key is"));
      const size_t at = text.find(" The pass key is " + key + ". Remember it. " + key + " is the pass key.");
      ASSERT_NE(at, text.npos) << text;
      EXPECT_NE(std::string(".!?\n").find(text[at - 1]), std::string::npos) << text.substr(at - 9, 40);
      EXPECT_GT(static_cast<double>(at), before);
      before = static_cast<double>(at);
    }
  }
  const auto key_of = [&](size_t item) { return task.prepared().task.items[item].answers[0]; };
  EXPECT_EQ(key_of(0), key_of(1));  // of a series
  EXPECT_NE(key_of(0), key_of(3));
  EXPECT_EQ(task.AnswerTokens(task.series()[0]), kBytes.Encode(" " + key_of(0)));
}

TEST(EvalNeedles, SeveralKeysAndSeveralValues) {
  const NeedleTask keys("needle_keys", Options({1500}, 1), kBytes), values("needle_values", Options({1500}, 1), kBytes);
  const auto count = [](const std::string& text, const std::string& what) {
    int n = 0;
    for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
    return n;
  };
  const std::string sentence = " One of the special magic numbers for ";
  const std::string text = kBytes.Decode(keys.Tokens(keys.series()[0], 1));
  EXPECT_EQ(count(text, sentence), 4);
  const EvalItem& item = keys.prepared().task.items[0];
  ASSERT_EQ(item.answers.size(), 1u);
  const std::string asked = text.substr(text.rfind("number for ") + 11);
  const std::string key = asked.substr(0, asked.find(" mentioned"));
  EXPECT_NE(text.find(sentence + key + " is: " + item.answers[0] + "."), text.npos) << text;
  EXPECT_EQ(count(text, sentence + key), 1);

  ASSERT_EQ(values.prepared().items.size(), 1u);  // no depths
  const std::string many = kBytes.Decode(values.Tokens(values.series()[0], 0));
  EXPECT_EQ(count(many, sentence), 4);
  ASSERT_EQ(values.prepared().task.items[0].answers.size(), 4u);
  for (const std::string& value : values.prepared().task.items[0].answers) EXPECT_EQ(count(many, value), 1);
}

TEST(EvalNeedles, TooShortForTheFact) {
  EXPECT_THAT(UserErrorOf([] { NeedleTask("passkey", Options({100}), kBytes); }),
              testing::AllOf(HasSubstr("--lengths"), HasSubstr("no room"), HasSubstr("found 100")));
}

// What is shared between depths changes no bit of what a text alone gives.
TEST(EvalNeedles, AnswersAreThoseOfEachTextAlone) {
  const LanguageModel model = TinyPatternModel("taipan");
  NeedleTask task("needle", Options({700}), kBytes);
  int64_t read = 0;
  AnswerOptions options{.on_read = [&](int64_t tokens) { read += tokens; }};
  ASSERT_TRUE(task.Answer(model, options));
  EXPECT_EQ(read, 6 * 700);
  for (const NeedleTask::Series& series : task.series()) {
    for (size_t d = 0; d < 3; ++d) {
      const std::vector<int32_t> tokens = task.Tokens(series, d);
      const ItemResult& result = *task.prepared().results[series.items[d]];
      EXPECT_EQ(result.completion, Complete(model, kBytes, {tokens}, {}).at(0));
      Generator alone(model);
      alone.Read(tokens);
      double sum = 0;
      for (const int32_t token : task.AnswerTokens(series)) {
        sum += ScoreToken(alone.logits(), token).logprob;
        alone.Read({&token, 1});
      }
      EXPECT_EQ(result.logprobs.at(0), sum / 8);  // a blank and seven digits
    }
  }
  const TaskResult summary = task.prepared().Summary();
  EXPECT_EQ(summary.cells.size(), 3u);
  EXPECT_EQ(summary.metrics.at(1).name, "answer_nats");
}

TEST(EvalNeedles, AStoppedRunGoesOn) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const TestFolder folder;
  NeedleTask whole("passkey", Options({500}), kBytes), first("passkey", Options({500}), kBytes);
  ASSERT_TRUE(whole.Answer(model, {}));
  {
    ItemsFile file(folder / "p.jsonl", {{"model_digest", "1"}});
    int64_t read = 0;
    AnswerOptions options{
        .stop = [&] { return read > 0; }, .on_read = [&](int64_t tokens) { read += tokens; }, .file = &file};
    EXPECT_FALSE(first.Answer(model, options));
    EXPECT_EQ(first.prepared().Summary().items, 1);
  }
  NeedleTask second("passkey", Options({400, 500}), kBytes);  // the cells that were there count, wherever they stand
  ItemsFile file(folder / "p.jsonl", {{"model_digest", "1"}});
  TakeKept(file, second.prepared());
  EXPECT_EQ(second.prepared().Summary().items, 1);
  ASSERT_TRUE(second.Answer(model, {}));
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(second.prepared().results[6 + i]->completion, whole.prepared().results[i]->completion);
    EXPECT_EQ(second.prepared().results[6 + i]->logprobs, whole.prepared().results[i]->logprobs);
  }
}

TEST(EvalNeedles, ShareOfTheAnswersFound) {
  EvalTask task{.name = "t", .measure = Measure::kCompletion, .metrics = {"found"}};
  EvalItem item;
  item.answers = {"1234567", "7654321"};
  task.items = {item};
  EXPECT_EQ(Summarise(task, {ItemResult{.completion = " 7654321, 123"}}).metrics.at(0).value, 0.5);
}

}  // namespace
}  // namespace taipan
