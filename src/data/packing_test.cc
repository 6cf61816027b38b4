#include "data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/parallel.h"
#include "base/rng.h"
#include "base/test_folder.h"
#include "data/tokenize.h"

namespace taipan {
namespace {

using testing::HasSubstr;

TEST(PackBestFit, FillsTheRoomThatFitsBest) {
  const std::vector<Piece> pieces = {{0, 3}, {10, 7}, {20, 5}, {30, 3}, {40, 6}, {50, 4}, {60, 1}};
  const std::vector<PackedRow> rows = PackBestFit(pieces, 10);
  EXPECT_EQ(rows, (std::vector<PackedRow>{{{0, 3}, {10, 7}}, {{40, 6}, {50, 4}}, {{20, 5}, {30, 3}, {60, 1}}}));
}

TEST(PackBestFit, EveryPieceOnceAndNoRowTooLong) {
  std::vector<Piece> pieces;
  int64_t total = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    const auto n = 1 + static_cast<int64_t>(RandomBelow({.stream = kTestStream}, static_cast<uint64_t>(i), 128));
    pieces.push_back({i * 1000, n});
    total += n;
  }
  std::set<int64_t> seen;
  const std::vector<PackedRow> rows = PackBestFit(pieces, 128);
  for (const PackedRow& row : rows) {
    int64_t inputs = 0;
    for (const Piece& piece : row) {
      inputs += piece.inputs;
      EXPECT_TRUE(seen.insert(piece.begin).second);
    }
    EXPECT_LE(inputs, 128);
  }
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_LT(static_cast<double>(rows.size()) * 128, 1.01 * static_cast<double>(total));  // best fit wastes little
}

// Documents whose tokens say which they are: document k has k % 40 + 1 letters and an end.
class PackedRowsTest : public testing::Test {
 protected:
  void SetUp() override {
    SetNumThreads(1);
    std::string lines;
    for (int64_t k = 0; k < kDocuments; ++k) {
      lines +=
          "{\"text\": \"" + std::string(static_cast<size_t>(k % 40 + 1), static_cast<char>('a' + k % 26)) + "\"}\n";
    }
    WriteFileAtomically(folder_ / "a.jsonl", lines);
    corpus_ = std::make_unique<Corpus>(std::vector<std::string>{folder_ / "a.jsonl"}, &bytes_, 256,
                                       CorpusOptions{.eos = 0, .separate = true});
  }
  static constexpr int64_t kDocuments = 700;  // three groups
  const ByteTokenizer bytes_;
  TestFolder folder_;
  std::unique_ptr<Corpus> corpus_;
};

TEST_F(PackedRowsTest, AnEpochHasEveryInputOnce) {
  const PackedRows rows(*corpus_, 32, WindowOrder::kShuffled, 7);
  std::map<int64_t, int64_t> times;
  int64_t inputs = 0;
  std::vector<std::vector<PackedRow>> epochs(2);
  for (int64_t i = 0; i < 2 * rows.rows(); ++i) epochs[static_cast<size_t>(i / rows.rows())].push_back(rows.Row(i));
  for (const PackedRow& row : epochs[0]) {
    int64_t length = 0;
    for (const Piece& piece : row) {
      length += piece.inputs;
      for (int64_t at = piece.begin; at < piece.begin + piece.inputs; ++at) ++times[at];
      std::vector<int32_t> ids(static_cast<size_t>(piece.inputs + 1));
      corpus_->Read(piece.begin, piece.inputs + 1, ids.data());
      for (size_t k = 0; k + 1 < ids.size(); ++k) EXPECT_EQ(ids[k], ids[0]);  // one document, its end is no input
    }
    EXPECT_LE(length, 32);
    inputs += length;
  }
  EXPECT_EQ(inputs, corpus_->size() - kDocuments);
  for (const auto& [at, n] : times) ASSERT_EQ(n, 1) << at;
  EXPECT_DOUBLE_EQ(rows.padding(), 1 - static_cast<double>(inputs) / static_cast<double>(rows.rows() * 32));
  EXPECT_LT(rows.padding(), 0.02);
  EXPECT_NE(epochs[0], epochs[1]);
  const PackedRows other(*corpus_, 32, WindowOrder::kShuffled, 8), in_order(*corpus_, 32, WindowOrder::kSequential, 7);
  EXPECT_NE(other.Row(0), rows.Row(0));
  EXPECT_EQ(in_order.Row(0), in_order.Row(in_order.rows()));
  EXPECT_EQ(in_order.Row(0), (PackedRow{{corpus_->Documents(31, 1)[0].begin, 32}}));  // the first that fills a context
}

TEST_F(PackedRowsTest, ThreadsAndShardsMakeNoDifference) {
  const PackedRows rows(*corpus_, 32, WindowOrder::kShuffled, 7);
  SetNumThreads(3);
  const PackedRows threads(*corpus_, 32, WindowOrder::kShuffled, 7);
  SetNumThreads(1);
  TokenizeRequest request;
  request.data = {folder_ / "a.jsonl"};
  request.tokenizer = &bytes_;
  request.eos = 0;
  request.shard_tokens = 7'000;
  request.out = folder_ / "shards";
  EXPECT_EQ(TokenizeData(request).shards.size(), 3u);
  const Corpus shards({request.out}, &bytes_, 256, {.eos = 0, .separate = true});
  ASSERT_EQ(shards.documents(), kDocuments);
  const PackedRows from_shards(shards, 32, WindowOrder::kShuffled, 7);
  for (int64_t i = 0; i < rows.rows(); ++i) {
    ASSERT_EQ(threads.Row(i), rows.Row(i));
    ASSERT_EQ(from_shards.Row(i), rows.Row(i));
  }
}

TEST_F(PackedRowsTest, DocumentsAreFoundByPlace) {
  const std::vector<DocumentSpan> all = corpus_->Documents(0, kDocuments);
  int64_t begin = 0;
  for (int64_t k = 0; k < kDocuments; ++k) {
    EXPECT_EQ(all[static_cast<size_t>(k)], (DocumentSpan{begin, k % 40 + 2}));
    EXPECT_EQ(corpus_->DocumentAt(begin), k);
    begin += k % 40 + 2;
    EXPECT_EQ(corpus_->DocumentAt(begin - 1), k);
  }
  // 5 letters from the second one of document 3 (4 letters): 3 with their targets, then the first two of document 4.
  const int64_t third = all[3].begin;
  EXPECT_EQ(PiecesBetween(*corpus_, third + 1, 5), (std::vector<Piece>{{third + 1, 3}, {third + 5, 1}}));
  // A share that is held out cuts the last document of the rest in two.
  const std::unique_ptr<Corpus> held = corpus_->HoldOut(0.5);
  EXPECT_EQ(corpus_->documents() + held->documents(), kDocuments + 1);
  int64_t tokens = 0;
  for (const DocumentSpan& d : held->Documents(0, held->documents())) {
    EXPECT_EQ(d.begin, tokens);
    tokens += d.length;
  }
  EXPECT_EQ(tokens, held->size());
}

TEST_F(PackedRowsTest, TokenFilesNeedAnEnd) {
  WriteFileAtomically(folder_ / "t.u16", std::string("\1\0\2\0\0\0\3\0\0\0\4\0", 12));
  const Corpus corpus({folder_ / "t.u16"}, nullptr, 10, {.eos = 0, .separate = true});
  EXPECT_EQ(corpus.Documents(0, 3), (std::vector<DocumentSpan>{{0, 3}, {3, 2}, {5, 1}}));
  EXPECT_THAT(UserErrorOf([&] { Corpus({folder_ / "t.u16"}, nullptr, 10, {.separate = true}); }),
              HasSubstr("t.u16: where a document of this token file ends is not known"));
  WriteFileAtomically(folder_ / "one.u16", std::string("\1\0", 2));
  const Corpus one({folder_ / "one.u16"}, nullptr, 10, {.eos = 0, .separate = true});
  EXPECT_THAT(UserErrorOf([&] { PackedRows(one, 8, WindowOrder::kSequential, 0); }),
              HasSubstr("one.u16: no document can be trained on, expected a document of at least two tokens"));
}

}  // namespace
}  // namespace taipan
