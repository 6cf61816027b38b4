#include "eval/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/test_folder.h"
#include "eval/completions.h"
#include "eval/readers.h"
#include "infer/generator.h"
#include "infer/scoring.h"
#include "infer/test_model.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

using testing::HasSubstr;

const nlohmann::ordered_json kHeader = {{"model_digest", "1"}, {"dtype", "f32"}};

std::string Words(int n, int seed) {
  std::string text;
  for (int i = 0; i < n; ++i) text += static_cast<char>(i % 6 == 5 ? ' ' : 'a' + (i * i * 7 + i * seed) % 26);
  return text;
}

EvalTask ChoiceTask(int items) {
  EvalTask task{.name = "t", .normalised = true, .metrics = {"acc", "acc_norm"}};
  for (int i = 0; i < items; ++i) {
    task.items.push_back(ChoiceItem("item", Words(20 + 13 * i, i), {Words(5, i), Words(9, i + 1), Words(2, i)}, 1));
  }
  return task;
}

const ByteTokenizer kBytes;

PreparedTask Prepared(EvalTask task, int64_t limit = 0) { return PrepareTask(std::move(task), limit, &kBytes, {}); }

std::vector<std::vector<double>> LogprobsOf(const PreparedTask& task) {
  std::vector<std::vector<double>> all;
  for (const auto& result : task.results) all.push_back(result ? result->logprobs : std::vector<double>());
  return all;
}

TEST(EvalRun, OptionsHaveTheScoresOfTheirTexts) {
  const LanguageModel model = TinyPatternModel("taipan");
  PreparedTask task = Prepared(ChoiceTask(4));
  ASSERT_TRUE(AnswerItems(model, &kBytes, {}, task));
  for (size_t i = 0; i < task.items.size(); ++i) {
    for (size_t option = 0; option < 3; ++option) {
      const EvalOption& texts = task.task.items[i].options[option];
      ScoreOptions options;
      options.from = std::ssize(texts.context);
      const double expected =
          ScoreTokens(model, ByteTokenizer().Encode(texts.context + texts.continuation), options).sum_logprob;
      EXPECT_NEAR(task.results[i]->logprobs[option], expected, 1e-3) << i << " " << option;
    }
  }
  EXPECT_EQ(task.Summary().items, 4);
  EXPECT_EQ(task.TokensLeft(), 0);
}

TEST(EvalRun, AStoppedRunGoesOn) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  EvalTask questions = ChoiceTask(40);  // more than a group
  PreparedTask whole = Prepared(questions);
  ASSERT_TRUE(AnswerItems(model, &kBytes, {}, whole));

  const TestFolder folder;
  const std::string path = folder / "t.jsonl";
  PreparedTask first = Prepared(questions);
  {
    ItemsFile file(path, kHeader);
    int groups = 0;
    AnswerOptions options{.stop = [&] { return groups++ == 1; }, .file = &file};
    EXPECT_FALSE(AnswerItems(model, &kBytes, options, first));
  }
  const int64_t done = first.Summary().items;
  EXPECT_GT(done, 0);
  EXPECT_LT(done, 40);
  // A power failure in the middle of a line.
  WriteFileAtomically(path, ReadFile(path) + R"({"item":39,"digest":"0000)");

  PreparedTask second = Prepared(questions);
  ItemsFile file(path, kHeader);
  TakeKept(file, second);
  EXPECT_EQ(second.Summary().items, done);
  int64_t read = 0;
  AnswerOptions options{.on_read = [&](int64_t tokens) { read += tokens; }, .file = &file};
  const int64_t left = second.TokensLeft();
  ASSERT_TRUE(AnswerItems(model, &kBytes, options, second));
  EXPECT_EQ(read, left);
  EXPECT_EQ(LogprobsOf(second), LogprobsOf(whole));  // to the bit

  PreparedTask third = Prepared(questions, 30);  // fewer items than are kept
  TakeKept(ItemsFile(path, kHeader), third);
  EXPECT_EQ(third.TokensLeft(), 0);
  EXPECT_EQ(third.Summary().asked, 30);
}

TEST(EvalRun, ResultsOfOthersAreRefused) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const TestFolder folder;
  const std::string path = folder / "t.jsonl";
  PreparedTask task = Prepared(ChoiceTask(3));
  ItemsFile file(path, kHeader);
  AnswerOptions options{.file = &file};
  AnswerItems(model, &kBytes, options, task);

  auto other = kHeader;
  other["model_digest"] = "2";
  EXPECT_THAT(
      UserErrorOf([&] { ItemsFile(path, other); }),
      testing::AllOf(HasSubstr(path), HasSubstr("model_digest"), HasSubstr("\"2\""), HasSubstr("another folder")));
  EvalTask changed = ChoiceTask(3);
  changed.items[1].options[2].continuation += "!";
  PreparedTask asked = Prepared(changed);
  TakeKept(ItemsFile(path, kHeader), asked);
  EXPECT_TRUE(asked.results[0] && asked.results[2]);
  EXPECT_FALSE(asked.results[1]);  // another question now

  std::string text = ReadFile(path);
  text.insert(text.find('\n') + 5, "#");
  WriteFileAtomically(path, text);
  EXPECT_THAT(UserErrorOf([&] { ItemsFile(path, kHeader); }), HasSubstr("t.jsonl: line 2"));
}

TEST(EvalRun, LongItemsLoseTheirBeginning) {
  EvalTask task = ChoiceTask(2);  // contexts of 20 and 33 bytes
  const ContextLimit limit{30, "--context"};
  const PreparedTask cut = PrepareTask(task, 0, &kBytes, limit);
  EXPECT_FALSE(cut.items[0].cut);
  EXPECT_TRUE(cut.items[1].cut);
  const Continuation& question = cut.items[1].questions[0];  // of " " and 5 bytes
  EXPECT_EQ(question.context.size() + question.continuation.size(), 31u);
  const std::string& context = task.items[1].options[0].context;
  EXPECT_EQ(question.context, ByteTokenizer().Encode(context.substr(context.size() - question.context.size())));
  EXPECT_THAT(UserErrorOf([&] {
                PrepareTask(task, 0, &kBytes, {8, "--context"});
              }),
              testing::AllOf(HasSubstr("item"), HasSubstr("longer than --context"), HasSubstr("at most 8 tokens")));

  EvalTask completion{.name = "c", .measure = Measure::kCompletion, .metrics = {"contains"}};
  completion.items = {CompletionItem("c", Words(100, 1), {"x"})};
  const PreparedTask prompt = PrepareTask(completion, 0, &kBytes, {60, "--context"});
  EXPECT_EQ(prompt.items[0].prompt, ByteTokenizer().Encode(Words(100, 1).substr(100 - (60 - kCompletionTokens))));
  EXPECT_THAT(UserErrorOf([&] {
                PrepareTask(completion, 0, &kBytes, {48, "--context"});
              }),
              HasSubstr("no room for a completion"));
}

// Ids of two letters where a pair fits.
class PairsTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 1 << 16; }
  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); i += 2) {
      ids.push_back(text[i] + (i + 1 < text.size() ? 256 * text[i + 1] : 0));
    }
    return ids;
  }
  std::string_view TokenBytes(int32_t) const override { return ""; }
  std::optional<int32_t> TokenId(std::string_view) const override { return std::nullopt; }
};

TEST(EvalRun, BoundariesInsideOfATokenAreCounted) {
  const PairsTokenizer pairs;
  EvalTask task{.name = "t", .metrics = {"acc"}};
  task.items = {ChoiceItem("even", "abcd", {"ef", "g"}, 0), ChoiceItem("odd", "abc", {"efgh", "ghi"}, 0)};
  const PreparedTask prepared = PrepareTask(task, 0, &pairs, {});
  EXPECT_FALSE(prepared.items[0].joined);
  EXPECT_TRUE(prepared.items[1].joined);
  EXPECT_EQ(prepared.items[1].questions[0].context, pairs.Encode("abc", {}));
  EXPECT_EQ(prepared.items[1].questions[0].continuation, pairs.Encode("efgh", {}));
  // "ab" + "c": what is left of "abc " + "" is nothing.
  task.items = {ChoiceItem("none", "abc", {""}, 0)};
  EXPECT_THAT(UserErrorOf([&] { PrepareTask(task, 0, &pairs, {}); }),
              testing::AllOf(HasSubstr("none: nothing to score"), HasSubstr("joins the continuation")));
}

TEST(EvalRun, CompletionsAreWhatTheModelWritesAlone) {
  const LanguageModel model = TinyPatternModel("taipan");
  const ByteTokenizer bytes;
  const std::string shared = Words(40, 3);
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : {shared + "one", shared + "two", shared + "t", Words(50, 9), std::string("x")}) {
    prompts.push_back(bytes.Encode(text));
  }
  const std::vector<std::span<const int32_t>> all(prompts.begin(), prompts.end());
  const std::vector<std::string> texts = Complete(model, bytes, all, {});
  for (size_t i = 0; i < prompts.size(); ++i) {
    Generator alone(model);
    alone.Read(prompts[i]);
    std::vector<int32_t> ids;
    alone.Generate({.sampling = {.temperature = 0}, .max_tokens = kCompletionTokens}, [&](int32_t id) {
      ids.push_back(id);
      return id != '\n';
    });
    const std::string raw = bytes.Decode(ids);
    EXPECT_EQ(texts[i], ToValidUtf8(raw.substr(0, raw.find('\n')))) << i;
    EXPECT_FALSE(texts[i].empty());
  }
}

TEST(EvalRun, CompletionTasks) {
  const LanguageModel model = TinyModel(LayerKind::kMamba2);
  const ByteTokenizer bytes;
  const std::vector<int32_t> prompt = bytes.Encode(Words(30, 2));
  const std::string text = Complete(model, bytes, {prompt}, {}).at(0);
  EvalTask questions{.name = "t", .measure = Measure::kCompletion, .metrics = {"contains"}};
  questions.items = {CompletionItem("a", Words(30, 2), {"never", text.substr(2, 5)}),
                     CompletionItem("b", Words(30, 2), {"never"})};
  PreparedTask task = Prepared(questions);
  const TestFolder folder;
  ItemsFile file(folder / "t.jsonl", kHeader);
  AnswerOptions options{.file = &file};
  ASSERT_TRUE(AnswerItems(model, &kBytes, options, task));
  EXPECT_EQ(task.Summary().metrics.at(0).value, 0.5);
  PreparedTask again = Prepared(questions);
  TakeKept(ItemsFile(folder / "t.jsonl", kHeader), again);
  EXPECT_EQ(again.TokensLeft(), 0);
  EXPECT_EQ(again.Summary().metrics.at(0).value, 0.5);
}

}  // namespace
}  // namespace taipan
