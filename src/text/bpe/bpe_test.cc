#include "text/bpe/bpe.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"

namespace taipan {
namespace {

const RandomKey kKey{.seed = 7, .stream = kTestStream};

std::string RandomWord(uint64_t i, size_t size, int letters) {
  std::string word;
  for (size_t j = 0; j < size; ++j) {
    word += static_cast<char>('a' + RandomBelow(kKey, i * 100'000 + j, static_cast<uint64_t>(letters)));
  }
  return word;
}

struct Made {
  std::vector<std::string> tokens;
  std::vector<BpeMerge> merges;
};

// The letters and random merges of what there is; new tokens come at the end, so that an id is a rank too.
Made MakeMerges(int letters, int count) {
  Made made;
  std::map<std::string, int32_t> ids;
  for (int i = 0; i < letters; ++i) {
    made.tokens.emplace_back(1, static_cast<char>('a' + i));
    ids[made.tokens.back()] = i;
  }
  for (uint64_t draw = 0; static_cast<int>(made.merges.size()) < count; ++draw) {
    const auto left = static_cast<int32_t>(RandomBelow(kKey, 10'000'000 + 2 * draw, made.tokens.size()));
    const auto right = static_cast<int32_t>(RandomBelow(kKey, 10'000'001 + 2 * draw, made.tokens.size()));
    const std::string joined = made.tokens[static_cast<size_t>(left)] + made.tokens[static_cast<size_t>(right)];
    if (joined.size() > 12 || ids.count(joined) != 0) continue;
    const auto id = static_cast<int32_t>(made.tokens.size());
    ids[joined] = id;
    made.tokens.push_back(joined);
    made.merges.push_back({left, right, id});
  }
  return made;
}

// The definition: as long as a pair can merge, the first of the best ones does. rank(left, right) < 0: cannot.
template <class Rank>
std::vector<int32_t> Slowly(const Bpe& bpe, const std::string& word, const Rank& rank) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  while (true) {
    int best = -1;
    size_t at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const int r = rank(parts[i], parts[i + 1]);
      if (r < 0 || (best >= 0 && r >= best)) continue;
      best = r;
      at = i;
    }
    if (best < 0) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& part : parts) ids.push_back(bpe.Find(part));
  return ids;
}

std::vector<int32_t> Encode(const Bpe& bpe, std::string_view word) {
  std::vector<int32_t> ids = {-7};  // what stands there already stays
  bpe.Encode(word, ids);
  EXPECT_EQ(ids[0], -7);
  ids.erase(ids.begin());
  return ids;
}

TEST(Bpe, MergesAsDefined) {
  const Made made = MakeMerges(4, 300);
  const Bpe bpe = Bpe::FromMerges(made.tokens, made.merges, {});
  std::map<std::pair<std::string, std::string>, int> ranks;
  for (size_t i = 0; i < made.merges.size(); ++i) {
    const auto& [left, right, result] = made.merges[i];
    ranks[{made.tokens[static_cast<size_t>(left)], made.tokens[static_cast<size_t>(right)]}] = static_cast<int>(i);
  }
  const auto rank = [&](const std::string& a, const std::string& b) {
    const auto it = ranks.find({a, b});
    return it == ranks.end() ? -1 : it->second;
  };
  for (uint64_t i = 0; i < 400; ++i) {  // both sides of the length at which the heap takes over
    const std::string word = RandomWord(i, 1 + static_cast<size_t>(RandomBelow(kKey, 900'000'000 + i, 120)), 4);
    EXPECT_EQ(Encode(bpe, word), Slowly(bpe, word, rank)) << word;
  }
}

TEST(Bpe, RanksAloneMergeWhateverIsAToken) {
  const Made made = MakeMerges(4, 300);
  std::vector<int32_t> ranks(made.tokens.size());
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i] = static_cast<int32_t>(i);
  ranks[20] = -1;
  const Bpe bpe = Bpe::FromRanks(made.tokens, ranks, {});
  const auto rank = [&](const std::string& a, const std::string& b) {
    const int32_t id = bpe.Find(a + b);
    return id < 0 ? -1 : ranks[static_cast<size_t>(id)];
  };
  for (uint64_t i = 0; i < 400; ++i) {
    const std::string word = RandomWord(i, 1 + static_cast<size_t>(RandomBelow(kKey, 900'000'000 + i, 120)), 4);
    EXPECT_EQ(Encode(bpe, word), Slowly(bpe, word, rank)) << word;
  }
}

TEST(Bpe, IgnoresMergesOfWholeTokens) {
  const std::vector<std::string> tokens = {"a", "b", "c", "ab", "abc"};
  const std::vector<BpeMerge> merges = {{0, 1, 3}};  // none leads to abc
  EXPECT_EQ(Encode(Bpe::FromMerges(tokens, merges, {}), "abc"), (std::vector<int32_t>{3, 2}));
  EXPECT_EQ(Encode(Bpe::FromMerges(tokens, merges, {.ignore_merges = true}), "abc"), (std::vector<int32_t>{4}));
}

TEST(Bpe, UnknownSymbols) {
  const std::vector<std::string> tokens = {"?", "a", "\u00e9"};
  const auto encode = [&](const BpeSettings& settings, const char* word) {
    return Encode(Bpe::FromMerges(tokens, {}, settings), word);
  };
  EXPECT_EQ(encode({.characters = true}, "a\u00e9xx"), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(encode({.characters = true, .unknown = 0}, "xx\u00e9x"), (std::vector<int32_t>{0, 0, 2, 0}));
  EXPECT_EQ(encode({.characters = true, .unknown = 0, .fuse_unknown = true}, "xx\u00e9x"),
            (std::vector<int32_t>{0, 2, 0}));
  EXPECT_EQ(encode({.unknown = 0}, "a\u00e9"), (std::vector<int32_t>{1, 0, 0}));  // bytes
}

TEST(Bpe, ByteFallback) {
  std::vector<std::string> tokens = {"a"};
  for (const char* byte : {"<0xC3>", "<0xA9>", "<0xFF>"}) tokens.emplace_back(byte);
  const BpeSettings settings{.characters = true, .byte_fallback = true};
  const Bpe bpe = Bpe::FromMerges(tokens, {}, settings);
  EXPECT_EQ(Encode(bpe, "a\u00e9\xff"), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(Encode(bpe, "\u00e8"), (std::vector<int32_t>{}));  // one of its bytes has no token
  EXPECT_EQ(bpe.FindByte(0xFF), 3);
  EXPECT_EQ(bpe.FindByte('a'), -1);
}

TEST(Bpe, LongWordsTakeNoQuadraticTime) {
  const Made made = MakeMerges(2, 60);
  const Bpe bpe = Bpe::FromMerges(made.tokens, made.merges, {});
  for (const int letters : {1, 2}) {
    const std::vector<int32_t> ids = Encode(bpe, RandomWord(1, 500'000, letters));
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += made.tokens[static_cast<size_t>(id)].size();
    EXPECT_EQ(bytes, 500'000u);
  }
}

}  // namespace
}  // namespace taipan
