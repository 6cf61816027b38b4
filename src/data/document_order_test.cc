#include "data/document_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/files.h"
#include "base/test_folder.h"
#include "data/windows.h"

namespace taipan {
namespace {

// 600 documents, three groups, of 1 to 7 tokens that end with 0: no two are equal.
std::string Documents() {
  std::string ids;
  for (int i = 0; i < 600; ++i) {
    ids.append(static_cast<size_t>(i % 5), 'x');
    ids += static_cast<char>(1 + i / 90);
    ids += static_cast<char>(20 + i % 90);
    ids += '\0';
  }
  return ids;
}

std::vector<std::string> Split(const std::vector<int32_t>& ids) {
  std::vector<std::string> all(1);
  for (const int32_t id : ids) {
    if (id != 0) all.back() += static_cast<char>(id);
    if (id == 0) all.emplace_back();
  }
  EXPECT_TRUE(all.back().empty());
  all.pop_back();
  return all;
}

class DocumentOrderTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteFileAtomically(folder_ / "some.u8", Documents());
    corpus_ = std::make_unique<Corpus>(std::vector<std::string>{folder_ / "some.u8"}, nullptr, 256,
                                       CorpusOptions{.eos = 0, .separate = true});
  }
  TestFolder folder_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(DocumentOrderTest, EveryEpochHasEveryDocumentOnceInAnOrderOfItsOwn) {
  const DocumentOrder order(*corpus_, 5);
  const auto read = [&](const DocumentOrder& from, int64_t epoch) {
    std::vector<int32_t> ids(static_cast<size_t>(corpus_->size()));
    from.Read(epoch, 0, corpus_->size(), ids.data());
    return Split(ids);
  };
  std::vector<int32_t> ids(static_cast<size_t>(corpus_->size()));
  corpus_->Read(0, corpus_->size(), ids.data());
  std::vector<std::string> plain = Split(ids);
  ASSERT_EQ(std::set<std::string>(plain.begin(), plain.end()).size(), 600u);
  std::set<std::vector<std::string>> orders = {plain};
  std::sort(plain.begin(), plain.end());
  for (const int64_t epoch : {0, 1, 2}) {
    std::vector<std::string> now = read(order, epoch);
    EXPECT_TRUE(orders.insert(now).second) << epoch;
    std::sort(now.begin(), now.end());
    EXPECT_EQ(now, plain);
  }
  EXPECT_EQ(read(DocumentOrder(*corpus_, 5), 1), read(order, 1));
  EXPECT_NE(read(DocumentOrder(*corpus_, 6), 1), read(order, 1));
}

TEST_F(DocumentOrderTest, WindowsAreOfTheShuffledTextAndShuffledThemselves) {
  constexpr int64_t kContext = 10;
  const WindowLoader loader(*corpus_, kContext, 3, WindowOrder::kDocuments, 5);
  const DocumentOrder order(*corpus_, 5);
  const int64_t windows = loader.windows_per_epoch();
  std::vector<int32_t> text(static_cast<size_t>(corpus_->size())), window(kContext + 1);
  std::set<int64_t> starts;
  bool in_order = true;
  for (int64_t i = 0; i < 2 * windows; ++i) {
    if (i % windows == 0) order.Read(i / windows, 0, corpus_->size(), text.data());
    loader.Read(i / 3, i % 3, window.data());
    const int64_t start = loader.WindowStart(i / 3, i % 3);
    EXPECT_TRUE(std::equal(window.begin(), window.end(), text.begin() + start)) << i;
    in_order = in_order && start == i % windows * kContext;
    starts.insert(start);
  }
  EXPECT_EQ(static_cast<int64_t>(starts.size()), windows);
  EXPECT_FALSE(in_order);
}

}  // namespace
}  // namespace taipan
