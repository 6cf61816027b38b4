#include "kernels/rope.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/rope_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

// Sine and cosine are rounded once (u = eps / 2), two products and a sum follow: below 2 eps of the pair's length.
constexpr double kTolerance = 2 * test::kFloatEps;

std::vector<int64_t> Positions(int64_t n, int64_t first) {
  std::vector<int64_t> out(static_cast<size_t>(n));
  std::iota(out.begin(), out.end(), first);
  return out;
}

struct Case {
  int64_t rows, heads, head_dim, rotary_dim;
};

std::vector<Case> Cases() {
  std::vector<Case> out;
  for (int64_t half = 0; half <= 35; ++half) out.push_back({3, 2, 2 * half + 1, 2 * half});
  for (const int64_t rows : {0, 1, 2, 65, 130}) out.push_back({rows, 3, 64, 64});
  out.push_back({2, 2, 64, 32});
  out.push_back({2, 1, 600, 600});  // more frequencies than fit into one chunk
  return out;
}

TEST(RopeReference, BackwardAgreesWithCentralDifferences) {
  const auto x = test::RandomVector<double>(3 * 20, 1), dy = test::RandomVector<double>(3 * 20, 2);
  const std::vector<int64_t> positions = {0, 3, 1000};
  const auto forward = [&](const std::vector<double>& v) {
    return test::DotProduct(reference::Rope(v, 10, 6, 10000.0, positions), dy);
  };
  test::CheckGradient(forward, x, reference::Rope(dy, 10, 6, 10000.0, positions, -1), "x");
}

void ExpectRopeAgrees(DType dtype) {
  for (const Case& c : Cases()) {
    const int64_t cols = c.heads * c.head_dim;
    const auto frequencies = RopeInverseFrequencies(10000.0, c.rotary_dim);
    for (const int64_t first : {0, 100'000}) {
      const auto positions = Positions(c.rows, first);
      PaddedMatrix x(c.rows, cols, 0, 0, dtype);
      x.FillRandom(1);
      const auto forward = reference::Rope(x.DenseDouble(), c.head_dim, c.rotary_dim, 10000.0, positions);
      const auto backward = reference::Rope(x.DenseDouble(), c.head_dim, c.rotary_dim, 10000.0, positions, -1);
      test::ForEachSimdTarget([&] {
        SCOPED_TRACE(testing::Message() << c.rows << " rows, head_dim " << c.head_dim << ", rotary " << c.rotary_dim);
        PaddedMatrix y(c.rows, cols, 3, 1, dtype), back(c.rows, cols, 1, 5, dtype);
        y.Fill(x.Dense()), back.Fill(x.Dense());
        const double tolerance = (kTolerance + test::StorageRoundoff(dtype)) * 2 * test::MaxAbs(x.Dense());
        Rope(y.View(), c.head_dim, frequencies, positions);
        ASSERT_LE(test::MaxAbsError(y.Dense(), forward), tolerance);
        Rope(back.View(), c.head_dim, frequencies, positions, -1);
        ASSERT_LE(test::MaxAbsError(back.Dense(), backward), tolerance);
        ASSERT_TRUE(y.GuardsIntact() && back.GuardsIntact());
      });
    }
  }
}

TEST(Rope, AgreesWithReferenceOnEveryTarget) {
  ExpectRopeAgrees(DType::kF32);
  ExpectRopeAgrees(DType::kBF16);
}

TEST(Rope, ThereAndBackIsTheIdentity) {
  PaddedMatrix x(67, 3 * 48), y(67, 3 * 48, 1, 3);
  x.FillRandom(1);
  const auto frequencies = RopeInverseFrequencies(500000.0, 46);
  const auto positions = Positions(67, 12345);
  test::ForEachSimdTarget([&] {
    y.Fill(x.Dense());
    Rope(y.View(), 48, frequencies, positions, 1);
    EXPECT_GT(test::MaxAbsError(y.Dense(), x.Dense()), 0.5);
    Rope(y.View(), 48, frequencies, positions, -1);
    EXPECT_LE(test::MaxAbsError(y.Dense(), x.Dense()), 2 * kTolerance * 2 * test::MaxAbs(x.Dense()));
  });
}

// What attention relies on: q.k depends on the distance of the positions alone.
TEST(Rope, DotProductsDependOnTheDistance) {
  const auto frequencies = RopeInverseFrequencies(10000.0, 64);
  const auto q = test::RandomVector<float>(64, 1), k = test::RandomVector<float>(64, 2);
  const auto dot_at = [&](int64_t first, int64_t distance) {
    std::vector<float> rows = k;
    rows.insert(rows.end(), q.begin(), q.end());
    const std::vector<int64_t> positions = {first, first + distance};
    Rope({rows.data(), 2, 64}, 64, frequencies, positions);
    return test::DotProduct(std::vector<float>(rows.begin(), rows.begin() + 64),
                            std::vector<float>(rows.begin() + 64, rows.end()));
  };
  test::ForEachSimdTarget([&] {
    // 64 products of values of about 1 with an error of kTolerance each.
    EXPECT_NEAR(dot_at(0, 7), dot_at(1'000'000, 7), 64 * 16 * kTolerance);
    EXPECT_GT(std::abs(dot_at(0, 7) - dot_at(0, 8)), 1e-3);
  });
}

TEST(Rope, ARowDoesNotDependOnTheOthersNorOnThreads) {
  PaddedMatrix x(130, 128);
  x.FillRandom(1);
  const auto frequencies = RopeInverseFrequencies(10000.0, 64);
  const auto positions = Positions(130, 50);
  test::ForEachSimdTarget([&] {
    PaddedMatrix whole(130, 128), pieces(130, 128);
    whole.Fill(x.Dense()), pieces.Fill(x.Dense());
    Rope(whole.View(), 64, frequencies, positions);
    for (int64_t row = 0; row < 130; ++row) Rope(pieces.View().Rows(row, 1), 64, frequencies, Positions(1, 50 + row));
    EXPECT_TRUE(test::SameBits(whole.Dense(), pieces.Dense()));
    test::ExpectSameBitsForAnyThreads([&] {
      PaddedMatrix y(130, 128);
      y.Fill(x.Dense());
      Rope(y.View(), 64, frequencies, positions);
      return y.Dense();
    });
  });
}

TEST(Rope, InverseFrequencies) {
  EXPECT_EQ(RopeInverseFrequencies(10000.0, 4), (std::vector<double>{1.0, 0.01}));
  EXPECT_TRUE(RopeInverseFrequencies(10000.0, 0).empty());
}

TEST(Rope, RefusesImpossibleCalls) {
  PaddedMatrix x(2, 12);
  const auto positions = Positions(2, 0);
  const std::vector<double> frequencies(4, 1.0);
  EXPECT_THROW(Rope(x.View(), 6, frequencies, positions), InternalError);  // 8 of 6 values
  EXPECT_THROW(Rope(x.View(), 5, {}, positions), InternalError);           // 12 is no multiple of 5
  EXPECT_THROW(Rope(x.View(), 12, frequencies, Positions(3, 0)), InternalError);
  EXPECT_THROW(RopeInverseFrequencies(10000.0, 3), InternalError);
}

}  // namespace
}  // namespace taipan
