#include "eval/probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/test_folder.h"
#include "infer/continuations.h"
#include "infer/scoring.h"
#include "infer/test_model.h"

namespace taipan {
namespace {

using testing::HasSubstr;

EvalTask Make(const std::string& name, int64_t vocab, int64_t each = 20) {
  return MakeProbe(name, {.vocab = vocab, .each = each, .seed = 3});
}

TEST(EvalProbes, MqarIsZoologysTask) {
  const EvalTask task = Make("mqar:64x8", 512);
  ASSERT_EQ(task.items.size(), 20u);
  std::set<std::vector<int32_t>> different;
  for (const EvalItem& item : task.items) {
    ASSERT_EQ(item.tokens.size(), 64u);
    ASSERT_EQ(item.targets.size(), 8u);
    std::map<int32_t, int32_t> value;
    for (size_t i = 0; i < 16; i += 2) value[item.tokens[i]] = item.tokens[i + 1];
    ASSERT_EQ(value.size(), 8u);  // no key twice
    std::set<int32_t> values;
    for (const auto& [k, v] : value) {
      EXPECT_TRUE(k >= 1 && k < 256 && v >= 256 && v < 512) << k << " " << v;
      values.insert(v);
    }
    EXPECT_EQ(values.size(), 8u);  // no value twice
    std::set<int64_t> places;
    for (size_t q = 0; q < 8; ++q) {
      const size_t query = static_cast<size_t>(item.places[q]) - 1;
      EXPECT_GE(query, 16u);
      EXPECT_EQ(query % 2, 0u);
      EXPECT_EQ(item.targets[q], value.at(item.tokens[query]));
      places.insert(item.places[q]);
    }
    EXPECT_EQ(places.size(), 8u);
    int64_t blanks = std::count(item.tokens.begin(), item.tokens.end(), 0);
    EXPECT_EQ(blanks, 64 - 16 - 8);
    different.insert(item.tokens);
  }
  EXPECT_EQ(different.size(), 20u);
}

// numpy.random.choice(24, 4, replace=False, p) with p as (i + 1)^-0.99 has the first place in 0.741 of 200,000 draws,
// and a mean place of 6.31.
TEST(EvalProbes, QueriesComeSoonRatherThanLate) {
  const EvalTask task = Make("mqar:56x4", 64, 2000);
  int first = 0;
  double sum = 0;
  for (const EvalItem& item : task.items) {
    for (const int64_t place : item.places) {
      first += place == 9;
      sum += static_cast<double>((place - 9) / 2);
    }
  }
  EXPECT_NEAR(first / 2000.0, 0.741, 0.03);
  EXPECT_NEAR(sum / 8000.0, 6.31, 0.2);
}

TEST(EvalProbes, JointRecallAsksForAPairOfTokens) {
  const EvalTask task = Make("joint_recall:128x16", 256);
  for (const EvalItem& item : task.items) {
    ASSERT_EQ(item.targets.size(), 16u);
    std::map<std::pair<int32_t, int32_t>, int32_t> value;
    for (size_t c = 0; c < 4; ++c) {
      for (size_t i = 0; i < 4; ++i) {
        value[{item.tokens[c * 9], item.tokens[c * 9 + 1 + 2 * i]}] = item.tokens[c * 9 + 2 + 2 * i];
      }
    }
    ASSERT_EQ(value.size(), 16u);
    for (size_t q = 0; q < 16; ++q) {
      const size_t key = static_cast<size_t>(item.places[q]) - 1;
      EXPECT_EQ(item.targets[q], value.at({item.tokens[key - 1], item.tokens[key]}));
    }
  }
}

TEST(EvalProbes, CopyAndInduction) {
  const EvalTask copy = Make("copy:10", 256, 3);
  ASSERT_EQ(copy.items.size(), 3u);
  for (const EvalItem& item : copy.items) {
    ASSERT_EQ(item.tokens.size(), 20u);
    ASSERT_EQ(item.targets.size(), 9u);
    EXPECT_TRUE(std::equal(item.tokens.begin(), item.tokens.begin() + 10, item.tokens.begin() + 10));
    for (size_t i = 0; i < 9; ++i) {
      EXPECT_EQ(item.places[i], static_cast<int64_t>(11 + i));
      EXPECT_EQ(item.targets[i], item.tokens[11 + i]);
    }
  }
  const EvalTask induction = Make("induction:40", 256);
  for (const EvalItem& item : induction.items) {
    ASSERT_EQ(item.tokens.size(), 41u);
    const auto first = std::find(item.tokens.begin(), item.tokens.end(), item.tokens.back());
    ASSERT_LT(first - item.tokens.begin(), 39);
    EXPECT_EQ(item.targets.at(0), *(first + 1));
    EXPECT_EQ(item.places.at(0), 41);
  }
}

TEST(EvalProbes, ASettingAloneHasTheSameSequences) {
  const EvalTask all = Make("mqar", 8192, 2), one = Make("mqar:256x16", 8192, 3);
  ASSERT_EQ(all.cells.size(), 6u);
  EXPECT_EQ(all.items.at(2).tokens, one.items.at(0).tokens);
  EXPECT_EQ(all.items.at(8).tokens, one.items.at(1).tokens);  // more sequences come behind
  EXPECT_EQ(all.items.at(2).cell, 2);
}

TEST(EvalProbes, SettingsThatAreNone) {
  for (const char* name : {"mqar:64", "mqar:64x", "mqar:64x17", "mqar:63x4", "mqar:x4", "mqar:64x0",
                           "joint_recall:128x6", "copy:64x4", "copy:", "induction:1"}) {
    EXPECT_THAT(UserErrorOf([&] { Make(name, 8192); }), testing::AllOf(HasSubstr("--tasks"), HasSubstr("no setting")))
        << name;
  }
  EXPECT_THAT(UserErrorOf([] { Make("mqar:256x64", 64); }), HasSubstr("larger vocabulary, expected 130 ids"));
  EXPECT_THAT(UserErrorOf([] { Make("copy:1024", 256); }), HasSubstr("larger vocabulary"));
}

TEST(EvalProbes, AnswersAreThoseOfTheModel) {
  const LanguageModel model = TinyPatternModel("taipan");
  EvalTask task = Make("mqar:64x4", 256, 40);
  std::vector<const EvalItem*> items;
  for (const EvalItem& item : task.items) items.push_back(&item);
  const std::vector<ItemResult> results = AnswerProbes(model, items);
  for (const size_t i : {0u, 17u, 39u}) {
    size_t asked = 0;
    ScoreOptions options;
    options.on_logits = [&](int64_t first, ConstMatrixView part) {
      for (int64_t row = 0; row < part.rows; ++row) {
        const auto& places = task.items[i].places;
        const auto found = std::find(places.begin(), places.end(), first + row + 1);
        if (found == places.end()) continue;
        const size_t query = static_cast<size_t>(found - places.begin());
        const TokenScore score = ScoreToken({part.F32(row), 256}, task.items[i].targets[query]);
        EXPECT_NEAR(results[i].logprobs[query], score.logprob, 1e-4);
        EXPECT_EQ(results[i].greedy[query], score.likeliest == task.items[i].targets[query]);
        ++asked;
      }
    };
    ScoreTokens(model, task.items[i].tokens, options);
    EXPECT_EQ(asked, 4u);
  }
  const std::vector<const EvalItem*> one = {items[17]};
  EXPECT_EQ(AnswerProbes(model, one)[0].logprobs, results[17].logprobs);  // to the bit
}

TEST(EvalProbes, CellsAreCountedApart) {
  EvalTask task{
      .name = "t", .measure = Measure::kTokens, .metrics = {"acc"}, .cells = {{{"length", 8}}, {{"length", 9.5}}}};
  for (const int64_t cell : {0, 1, 0}) {
    EvalItem item;
    item.targets = {1, 2};
    item.cell = cell;
    task.items.push_back(item);
  }
  const auto result = [](bool a, bool b) { return ItemResult{.logprobs = {-1, -1}, .greedy = {a, b}}; };
  const TaskResult summary = Summarise(task, {result(true, true), result(false, false), result(true, false)});
  EXPECT_EQ(summary.metrics.at(0).value, 0.5);
  ASSERT_EQ(summary.cells.size(), 2u);
  EXPECT_EQ(summary.cells[0].metrics.at(0).value, 0.75);
  const auto json = ToJson(summary);
  EXPECT_EQ(json.at("cells")[0].dump().substr(0, 22), R"({"length":8,"items":2,)");
  EXPECT_EQ(json.at("cells")[1].at("length"), 9.5);
  EXPECT_EQ(Summarise(task, {result(true, true), std::nullopt, std::nullopt}).cells[1].items, 0);
}

}  // namespace
}  // namespace taipan
