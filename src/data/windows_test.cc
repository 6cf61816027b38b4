#include "data/windows.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/test_folder.h"

namespace taipan {
namespace {

std::vector<int32_t> Counting(int64_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

TEST(WindowLoader, SequentialRowsFollowEachOther) {
  const Corpus corpus(Counting(1000), 1000, "counting");
  const WindowLoader loader(corpus, /*context=*/7, /*batch_size=*/3, WindowOrder::kSequential, 0);
  std::vector<int32_t> window(8);
  for (int64_t step = 0; step < 5; ++step) {
    for (int64_t row = 0; row < 3; ++row) {
      loader.Read(step, row, window.data());
      for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(window[static_cast<size_t>(i)], (step * 3 + row) * 7 + i);
    }
  }
}

TEST(WindowLoader, CountsWindowsThatHaveTheirLastTarget) {
  for (const auto& [tokens, windows] : std::vector<std::pair<int64_t, int64_t>>{{11, 1}, {20, 1}, {21, 2}, {31, 3}}) {
    const Corpus corpus(Counting(tokens), 100, "counting");
    EXPECT_EQ(WindowLoader(corpus, 10, 1, WindowOrder::kSequential, 0).windows_per_epoch(), windows) << tokens;
  }
}

TEST(WindowLoader, WrapsRoundInTheMiddleOfABatch) {
  const Corpus corpus(Counting(31), 100, "counting");  // three windows of 10
  const WindowLoader loader(corpus, 10, 2, WindowOrder::kSequential, 0);
  std::vector<int64_t> starts;
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t row = 0; row < 2; ++row) starts.push_back(loader.WindowStart(step, row));
  }
  EXPECT_EQ(starts, (std::vector<int64_t>{0, 10, 20, 0, 10, 20, 0, 10}));
}

TEST(WindowLoader, ShuffledEpochsAreDifferentPermutations) {
  constexpr int64_t kWindows = 37;  // odd, so that epochs begin in the middle of a batch
  const Corpus corpus(Counting(kWindows * 5 + 1), 1000, "counting");
  const WindowLoader loader(corpus, 5, 4, WindowOrder::kShuffled, /*seed=*/11);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t index = 0; index < 3 * kWindows; ++index) {
    epochs[static_cast<size_t>(index / kWindows)].push_back(loader.WindowStart(index / 4, index % 4));
  }
  for (const std::vector<int64_t>& epoch : epochs) {
    const std::set<int64_t> starts(epoch.begin(), epoch.end());
    EXPECT_EQ(starts.size(), size_t{kWindows});
    EXPECT_EQ(*starts.rbegin(), (kWindows - 1) * 5);
    EXPECT_FALSE(std::is_sorted(epoch.begin(), epoch.end()));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  const WindowLoader other(corpus, 5, 4, WindowOrder::kShuffled, /*seed=*/12);
  std::vector<int64_t> other_epoch;
  for (int64_t index = 0; index < kWindows; ++index) other_epoch.push_back(other.WindowStart(index / 4, index % 4));
  EXPECT_NE(epochs[0], other_epoch);
}

TEST(WindowLoader, RefusesDataShorterThanAContext) {
  const Corpus corpus(Counting(10), 100, "short.u16");
  const std::string error = UserErrorOf([&] { WindowLoader(corpus, 10, 1, WindowOrder::kSequential, 0); });
  EXPECT_NE(error.find("short.u16"), std::string::npos) << error;
  EXPECT_NE(error.find("at least 11 tokens"), std::string::npos) << error;
  EXPECT_NE(error.find("found 10 tokens"), std::string::npos) << error;
}

}  // namespace
}  // namespace taipan
