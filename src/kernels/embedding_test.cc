#include "kernels/embedding.h"

#include "kernels/embedding_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

std::vector<int32_t> RandomTokens(int64_t n, int64_t vocab, uint64_t seed) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) {
    out.push_back(static_cast<int32_t>(
        RandomBelow({.seed = seed, .stream = kTestStream}, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab))));
  }
  return out;
}

TEST(EmbeddingReference, GradientIsTheScatterAdd) {
  const int64_t vocab = 4, d = 3;
  const std::vector<int32_t> tokens = {2, 0, 2, 3, 2};
  const auto table = test::RandomVector<double>(vocab * d, 1), pull = test::RandomVector<double>(5 * d, 2);
  std::vector<double> analytic(table.size());
  reference::EmbedBackward<double>(pull, d, tokens, analytic);
  const auto f = [&](const std::vector<double>& x) { return test::DotProduct(reference::Embed(x, d, tokens), pull); };
  test::CheckGradient(f, table, analytic, "table");
}

TEST(Embedding, MatchesTheReferenceBitForBit) {
  for (const int64_t d : {1, 3, 15, 16, 17, 31, 33, 64, 65, 131}) {
    for (const int64_t rows : {0, 1, 5, 150}) {
      for (const int64_t vocab : {1, 97}) {
        const auto tokens = RandomTokens(rows, vocab, 3);
        PaddedMatrix table(vocab, d, 5, 3), out(rows, d, 2, 1), dout(rows, d, 7, 1);
        table.FillRandom(4);
        dout.FillRandom(5);
        std::vector<float> gradient = test::RandomVector<float>(vocab * d, 6);
        PaddedMatrix dtable(vocab, d, 1, 2);
        const std::vector<float> start = gradient;
        reference::EmbedBackward<float>(dout.Dense(), d, tokens, gradient);
        test::ForEachSimdTarget([&] {
          Embed(table.View(), tokens, out.View());
          EXPECT_TRUE(test::SameBits(out.Dense(), reference::Embed(table.Dense(), d, tokens)));
          dtable.Fill(start);
          EmbedBackward(dout.View(), tokens, dtable.View());
          // The same additions in the same order: a float reference has the same bits.
          EXPECT_TRUE(test::SameBits(dtable.Dense(), gradient)) << "d " << d << ", rows " << rows;
          EXPECT_TRUE(out.GuardsIntact() && dtable.GuardsIntact());
        });
      }
    }
  }
}

TEST(Embedding, ThreadsDoNotChangeTheBits) {
  const int64_t vocab = 7, d = 300, rows = 333;
  const auto tokens = RandomTokens(rows, vocab, 7);
  PaddedMatrix dout(rows, d);
  dout.FillRandom(8);
  test::ExpectSameBitsForAnyThreads([&] {
    PaddedMatrix dtable(vocab, d);
    EmbedBackward(dout.View(), tokens, dtable.View());
    return dtable.Dense();
  });
}

TEST(Embedding, NanStaysWithItsToken) {
  PaddedMatrix dout(2, 20), dtable(3, 20);
  dout.View().F32(1)[19] = std::numeric_limits<float>::quiet_NaN();
  EmbedBackward(dout.View(), std::vector<int32_t>{0, 2}, dtable.View());
  const std::vector<float> out = dtable.Dense();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i == 59) << i;
}

TEST(Embedding, IdsOutsideTheTableAreABug) {
  PaddedMatrix table(3, 4), rows(1, 4);
  for (const int32_t id : {-1, 3}) {
    EXPECT_THROW(Embed(table.View(), std::vector<int32_t>{id}, rows.View()), InternalError);
    EXPECT_THROW(EmbedBackward(rows.View(), std::vector<int32_t>{id}, table.View()), InternalError);
  }
}

TEST(Embedding, RowsOfABF16TableAreExact) {
  Tensor table({5, 3}, DType::kBF16);
  for (int64_t i = 0; i < 15; ++i) table.As<BF16>()[i] = ToBF16(static_cast<float>(i) * 0.25f);
  Tensor out({2, 3});
  const std::vector<int32_t> tokens = {4, 1};
  Embed(table.Matrix(), tokens, out.Matrix());
  EXPECT_EQ(std::vector<float>(out.F32(), out.F32() + 6), (std::vector<float>{3, 3.25f, 3.5f, 0.75f, 1, 1.25f}));
}

}  // namespace
}  // namespace taipan
