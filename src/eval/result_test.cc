#include "eval/result.h"

#include <gtest/gtest.h>

#include <cmath>

namespace taipan {
namespace {

EvalItem Item(const std::vector<std::string>& texts, std::vector<bool> right) {
  EvalItem item;
  for (const std::string& text : texts) item.options.push_back({"c", " " + text, text});
  item.right = std::move(right);
  return item;
}

ItemResult Logprobs(std::vector<double> logprobs) {
  const size_t n = logprobs.size();
  return {.logprobs = std::move(logprobs), .greedy = std::vector<bool>(n, false)};
}

double ValueOf(const TaskResult& result, const std::string& name) {
  for (const auto* metrics : {&result.metrics, &result.further}) {
    for (const Metric& metric : *metrics) {
      if (metric.name == name) return metric.value;
    }
  }
  return NAN;
}

TEST(EvalResult, LengthsDecideTheLikeliest) {
  // 2 characters of 3 bytes each, and 4 of a byte: -6/1, -6/2, -6/6 against -8/1, -8/4, -8/4.
  const EvalItem item = Item({"\u4e2d\u6587", "abcd"}, {true, false});
  const ItemResult result = Logprobs({-6, -8});
  EXPECT_EQ(LikeliestOption(item, result), 0);
  EXPECT_EQ(LikeliestOption(item, result, Length::kCharacters), 1);
  EXPECT_EQ(LikeliestOption(item, result, Length::kBytes), 0);
  EXPECT_EQ(LikeliestOption(item, Logprobs({-3, -3})), 0);  // the first of equal ones
  EXPECT_EQ(LikeliestOption(Item({"", "a"}, {true, false}), Logprobs({-1, -2}), Length::kCharacters), 1);
}

TEST(EvalResult, AccuracyWithItsErrorAndChance) {
  EvalTask task{.name = "t", .normalised = true, .metrics = {"acc", "acc_norm"}};
  task.items = {Item({"a", "bbbb"}, {true, false}), Item({"a", "b"}, {false, true}), Item({"a", "b"}, {true, false}),
                Item({"a", "b", "c", "d"}, {true, true, false, false}), Item({"a", "b"}, {true, false})};
  std::vector<std::optional<ItemResult>> results = {Logprobs({-1, -2}), Logprobs({-1, -2}), Logprobs({-1, -2}),
                                                    Logprobs({-3, -2, -4, -5}), std::nullopt};
  const TaskResult summary = Summarise(task, results);
  EXPECT_EQ(summary.items, 4);
  EXPECT_EQ(summary.asked, 5);
  EXPECT_EQ(ValueOf(summary, "acc"), 0.75);
  EXPECT_EQ(ValueOf(summary, "acc_norm"), 0.5);  // -2/4 beats -1/1
  EXPECT_EQ(ValueOf(summary, "acc_bytes"), 0.5);
  // Values 1, 0, 1, 1: the deviation of the sample is 1/2, its mean's 1/4.
  EXPECT_NEAR(summary.metrics.at(0).error.value(), 0.25, 1e-15);
  EXPECT_EQ(summary.chance, 0.5);
  results.assign(5, std::nullopt);
  EXPECT_TRUE(Summarise(task, results).metrics.empty());  // never a zero for what was not answered
}

TEST(EvalResult, MassOfTheRightOnes) {
  EvalTask task{.name = "t", .measure = Measure::kMass, .metrics = {"acc"}};
  task.items = {Item({"a", "b", "c"}, {true, false, true})};
  const TaskResult summary =
      Summarise(task, {Logprobs({std::log(0.1) - 900, std::log(0.3) - 900, std::log(0.2) - 900})});
  EXPECT_NEAR(ValueOf(summary, "acc"), 0.5, 1e-12);
}

TEST(EvalResult, LastWords) {
  EvalTask task{.name = "t", .measure = Measure::kWord, .metrics = {"acc", "perplexity"}};
  task.items = {Item({"a"}, {true}), Item({"b"}, {true})};
  ItemResult hit = Logprobs({-1});
  hit.greedy = {true};
  const TaskResult summary = Summarise(task, {hit, Logprobs({-3})});
  EXPECT_EQ(ValueOf(summary, "acc"), 0.5);
  EXPECT_NEAR(ValueOf(summary, "perplexity"), std::exp(2.0), 1e-12);
  EXPECT_FALSE(summary.chance.has_value());
}

TEST(EvalResult, CompletionsContainAnAnswer) {
  EvalTask task{.name = "t", .measure = Measure::kCompletion, .metrics = {"contains"}};
  EvalItem item;
  item.answers = {"New York", "\u00c9COLE"};
  task.items = {item, item, item};
  const TaskResult summary =
      Summarise(task, {ItemResult{.completion = " in new YORK."}, ItemResult{.completion = "l'\u00e9cole"},
                       ItemResult{.completion = "York"}});
  EXPECT_NEAR(ValueOf(summary, "contains"), 2.0 / 3, 1e-15);
}

TEST(EvalResult, AsJson) {
  EvalTask task{.name = "t", .metrics = {"acc"}};
  task.items = {Item({"a", "b"}, {true, false})};
  TaskResult summary = Summarise(task, {Logprobs({-1, -2})});
  summary.cut = 1;
  const auto json = ToJson(summary);
  EXPECT_EQ(json.at("acc"), 1.0);
  EXPECT_FALSE(json.contains("acc_stderr"));  // of one item
  EXPECT_EQ(json.at("chance"), 0.5);
  EXPECT_EQ(json.at("cut_items"), 1);
}

}  // namespace
}  // namespace taipan
