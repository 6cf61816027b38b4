#include "train/recall_task.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace taipan {
namespace {

// Key by key: the value that stands behind it among the first 2 * pairs tokens.
std::map<int32_t, int32_t> PairsOf(const RecallTask& task, const RecallSequence& s) {
  std::map<int32_t, int32_t> pairs;
  for (size_t i = 0; i < static_cast<size_t>(task.pairs); ++i) {
    EXPECT_TRUE(s.tokens[2 * i] > 0 && s.tokens[2 * i] < task.vocab / 2);
    EXPECT_TRUE(s.tokens[2 * i + 1] >= task.vocab / 2 && s.tokens[2 * i + 1] < task.vocab);
    pairs[s.tokens[2 * i]] = s.tokens[2 * i + 1];
  }
  EXPECT_EQ(std::ssize(pairs), task.pairs);
  return pairs;
}

// Places of the keys behind the pairs; each has to ask for its value, and nothing else asks.
std::vector<int64_t> Queries(const RecallTask& task, const RecallSequence& s) {
  const std::map<int32_t, int32_t> pairs = PairsOf(task, s);
  std::vector<int64_t> places;
  std::set<int32_t> asked;
  for (int64_t i = 0; i < task.length; ++i) {
    const int32_t token = s.tokens[static_cast<size_t>(i)], target = s.targets[static_cast<size_t>(i)];
    const bool query = i >= 2 * task.pairs && token != 0;
    EXPECT_EQ(target, query ? pairs.at(token) : -1);
    if (!query) continue;
    places.push_back(i - 2 * task.pairs);
    asked.insert(token);
  }
  EXPECT_EQ(std::ssize(places), task.pairs);
  EXPECT_EQ(std::ssize(asked), task.pairs);
  return places;
}

TEST(RecallTask, EachKeyComesBackOnceAndAsksForItsValue) {
  const RecallTask task{.length = 40, .pairs = 8, .vocab = 64, .seed = 3};
  bool odd = false;
  for (uint64_t i = 0; i < 50; ++i) {
    for (const int64_t place : Queries(task, MakeRecallSequence(task, i))) odd |= place % 2 == 1;
  }
  EXPECT_TRUE(odd);
}

TEST(RecallTask, ByPowerLawKeysComeBackSoonerAtEverySecondPlaceAndNoValueTwice) {
  const RecallTask task{.length = 64, .pairs = 4, .vocab = 512, .power = 0.01, .seed = 3};
  int64_t early = 0, late = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    const RecallSequence s = MakeRecallSequence(task, i);
    std::set<int32_t> values;
    for (const auto& [key, value] : PairsOf(task, s)) values.insert(value);
    EXPECT_EQ(std::ssize(values), task.pairs);
    for (const int64_t place : Queries(task, s)) {
      EXPECT_EQ(place % 2, 0);
      ++(place < 14 ? early : late);
    }
  }
  // The first 7 of 28 places have 0.66 of the weight, and are used up by four queries sometimes.
  EXPECT_GT(early, late);
  EXPECT_GT(late, early / 4);
}

TEST(RecallTask, AllKeysMayBeAskedForAtEveryPlaceThatThereIs) {
  const RecallTask task{.length = 32, .pairs = 8, .vocab = 20, .power = 0.01, .seed = 3};
  const std::vector<int64_t> all = {0, 2, 4, 6, 8, 10, 12, 14};
  EXPECT_EQ(Queries(task, MakeRecallSequence(task, 1)), all);
}

}  // namespace
}  // namespace taipan
