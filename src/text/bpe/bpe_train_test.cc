#include "text/bpe/bpe_train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "base/test_folder.h"
#include "text/tokenizer_json.h"

namespace taipan {
namespace {

using testing::ElementsAre;

TrainedBpe Trained(const std::string& text, int64_t merges, const std::vector<std::string>& specials = {}) {
  WordCounts words;
  words.Add(text);
  return TrainBpe(words, 256 + merges + static_cast<int64_t>(specials.size()), specials, [](int64_t) {});
}
std::vector<std::string> Learned(const TrainedBpe& bpe) { return {bpe.tokens.begin() + 256, bpe.tokens.end()}; }

TEST(WordCounts, AreGpt2sWords) {
  WordCounts words;
  words.Add("it's 12 ab  ab\n");
  words.Add(
      "ab\xff"
      "ab");
  const auto& counts = words.counts();
  EXPECT_EQ(counts.at("'s"), 1);
  EXPECT_EQ(counts.at(" ab"), 2);
  EXPECT_EQ(counts.at("ab"), 2);
  EXPECT_EQ(counts.at("\xff"), 1);
  EXPECT_EQ(counts.at(" "), 1);
}

TEST(TrainBpe, TheMostFrequentPairFirst) {
  EXPECT_THAT(Learned(Trained("abab abab abab cd cd", 3)), ElementsAre("ab", "abab", "cd"));
  // Equal counts: the smaller ids, in the order of GPT-2's characters ('!' to '~' first, the space after them).
  EXPECT_THAT(Learned(Trained("zy zy ba ba", 4)), ElementsAre("ba", "zy", " ba"));
  EXPECT_THAT(Learned(Trained("aaaaa aaaaa", 2)), ElementsAre("aa", "aaa"));
}

TEST(TrainBpe, StopsWhereNoPairOccursTwice) {
  const TrainedBpe bpe = Trained("ab ab x", 100);
  EXPECT_THAT(Learned(bpe), ElementsAre("ab"));
  EXPECT_EQ(bpe.vocab_size(), 257);
  EXPECT_TRUE(Learned(Trained("", 10)).empty());
}

TEST(TrainBpe, TokenizerJsonEncodesTheText) {
  const std::string text = "the cat and the hat, the \xc3\xa9t\xc3\xa9 and the rat\n";
  const TrainedBpe bpe = Trained(text + text, 30, {"<|endoftext|>"});
  const auto t = ReadTokenizerJson(ParseJson(TokenizerJson(bpe), "j"), "j");
  EXPECT_EQ(t->vocab_size(), bpe.vocab_size());
  EXPECT_EQ(t->TokenId("<|endoftext|>"), 0);
  EXPECT_TRUE(t->IsSpecial(0));
  EXPECT_EQ(t->TokenBytes(1), "!");
  EXPECT_EQ(t->Decode(t->Encode(text + "\xff")), text + "\xff");
  EXPECT_LT(t->Encode(text).size(), text.size() / 2);
  for (const int32_t id : t->Encode(" the the")) EXPECT_EQ(t->TokenBytes(id), " the");
}

TEST(TrainBpe, MergesAreWhatARecountGives) {
  // Against the plain definition: count all pairs anew before each merge.
  std::string text;
  uint32_t state = 7;
  for (int i = 0; i < 3000; ++i) {
    state = state * 1664525u + 1013904223u;
    text += "abcd e"[(state >> 24) % 6];
  }
  WordCounts words;
  words.Add(text);
  const TrainedBpe fast = TrainBpe(words, 256 + 60, {}, [](int64_t) {});
  std::vector<std::pair<std::vector<int32_t>, int64_t>> split;
  for (const auto& [word, count] : words.counts()) {
    std::vector<int32_t> ids;
    for (const char c : word) {
      ids.push_back(static_cast<int32_t>(std::find(fast.tokens.begin(), fast.tokens.end(), std::string(1, c)) -
                                         fast.tokens.begin()));
    }
    split.emplace_back(ids, count);
  }
  for (const BpeMerge& merge : fast.merges) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& [ids, count] : split) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) counts[{ids[i], ids[i + 1]}] += count;
    }
    auto best = counts.begin();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (it->second > best->second) best = it;
    }
    ASSERT_EQ(best->first, std::pair(merge.left, merge.right));
    for (auto& [ids, count] : split) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < ids.size(); ++i) {
        const bool match = i + 1 < ids.size() && ids[i] == merge.left && ids[i + 1] == merge.right;
        merged.push_back(match ? merge.result : ids[i]);
        i += match;
      }
      ids = merged;
    }
  }
}

}  // namespace
}  // namespace taipan
