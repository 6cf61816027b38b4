#include "dist/group.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>

#include "base/test_folder.h"
#include "dist/test_group.h"

namespace taipan {
namespace {

// Sizes of many orders, so that sums in another order have other bits.
float Value(int rank, int64_t i) {
  return std::ldexp(1.0f + static_cast<float>((i * 37 + rank * 11) % 101) / 101,
                    static_cast<int>((i + rank * 5) % 24)) *
         ((i + rank) % 3 == 0 ? -1.0f : 1.0f);
}

template <class T>
std::vector<T> ValuesOf(int rank, int64_t n) {
  std::vector<T> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<T>(Value(rank, i)));
  return values;
}

template <class T>
std::vector<T> SumInOrder(int ranks, int64_t n) {
  std::vector<T> sum = ValuesOf<T>(0, n);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<T> values = ValuesOf<T>(rank, n);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
  }
  return sum;
}

class Groups : public testing::TestWithParam<int> {};

TEST_P(Groups, SumsAreThoseOfTheRanksInOrder) {
  const int n = GetParam();
  AsRanks(n, [&](Group& group) {
    for (const int64_t count : {0, 1, 5, 1000, 20003}) {
      std::vector<float> floats = ValuesOf<float>(group.rank(), count);
      std::vector<double> doubles = ValuesOf<double>(group.rank(), count);
      group.Sum(std::span<float>(floats));
      group.Sum(std::span<double>(doubles));
      EXPECT_EQ(floats, SumInOrder<float>(n, count));
      EXPECT_EQ(doubles, SumInOrder<double>(n, count));
    }
  });
}

TEST_P(Groups, PiecesAreSummedAndGathered) {
  const int n = GetParam();
  AsRanks(n, [&](Group& group) {
    std::vector<int64_t> bounds = {0};
    for (int r = 0; r < n; ++r) bounds.push_back(bounds.back() + (r == 1 ? 0 : 700 + 13 * r));  // rank 1 has none
    const auto own = static_cast<size_t>(group.rank());
    std::vector<float> values = ValuesOf<float>(group.rank(), bounds.back());
    group.SumPieces(values, bounds);
    const std::vector<float> sum = SumInOrder<float>(n, bounds.back());
    for (int64_t i = bounds[own]; i < bounds[own + 1]; ++i) EXPECT_EQ(values[i], sum[i]);
    for (int64_t& bound : bounds) bound *= 4;
    group.GatherPieces(std::as_writable_bytes(std::span<float>(values)), bounds);
    EXPECT_EQ(values, sum);
  });
}

TEST_P(Groups, BroadcastReachesEveryRankFromAnyRank) {
  const int n = GetParam();
  AsRanks(n, [&](Group& group) {
    for (int from = 0; from < n; ++from) {
      std::vector<float> values = ValuesOf<float>(group.rank(), 50);
      group.Broadcast(std::as_writable_bytes(std::span<float>(values)), from);
      EXPECT_EQ(values, ValuesOf<float>(from, 50));
    }
    EXPECT_EQ(BroadcastText(group, group.leads() ? "from the first" : "not this"), "from the first");
    group.Barrier();
  });
}

TEST_P(Groups, TextsAndValuesOfAnyLengthComeInOrder) {
  const int n = GetParam();
  AsRanks(n, [&](Group& group) {
    const auto text = [](int rank) {
      return std::string(static_cast<size_t>(rank % 3), static_cast<char>('a' + rank));
    };
    const std::vector<std::string> texts = GatherTexts(group, text(group.rank()));
    const std::vector<float> floats = GatherFloats(group, ValuesOf<float>(group.rank(), 2 * group.rank()));
    std::vector<float> expected;
    for (int r = 0; r < n; ++r) {
      EXPECT_EQ(texts.at(static_cast<size_t>(r)), text(r));
      for (const float value : ValuesOf<float>(r, 2 * r)) expected.push_back(value);
    }
    EXPECT_EQ(floats, expected);
  });
}

TEST_P(Groups, NeighboursExchange) {
  const int n = GetParam();
  if (n == 1) return;
  AsRanks(n, [&](Group& group) {
    int own = group.rank(), before = -1;
    const Message messages[] = {{Message::kSend, (own + 1) % n, &own, sizeof(own)},
                                {Message::kReceive, (own + n - 1) % n, &before, sizeof(before)}};
    group.Exchange(messages);
    EXPECT_EQ(before, (own + n - 1) % n);
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, Groups, testing::Values(1, 2, 3, 4, 7));

TEST(Group, ARankOwnsWhatItSendsInASum) {
  AsRanks(4, [&](Group& group) {
    std::vector<float> values(40000, 1.0f);
    const int64_t before = group.bytes_sent();
    group.Sum(std::span<float>(values));
    EXPECT_EQ(group.bytes_sent() - before, 2 * 3 * 40000);  // 2 (n - 1) / n of 160,000 bytes
  });
}

TEST(Group, BoundsAreEven) {
  EXPECT_EQ(EvenBounds(10, 4), (std::vector<int64_t>{0, 3, 6, 8, 10}));
  EXPECT_EQ(EvenBounds(130, 4, 64), (std::vector<int64_t>{0, 64, 128, 130, 130}));
  EXPECT_EQ(EvenBounds(0, 2), (std::vector<int64_t>{0, 0, 0}));
}

TEST(JoinGroup, IsAloneWithoutMpirunAndSaysWhatIsMissingWithIt) {
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_TRUE(JoinGroup()->alone());
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_TRUE(JoinGroup()->alone());
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
}

}  // namespace
}  // namespace taipan
