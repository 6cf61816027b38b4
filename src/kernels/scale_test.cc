#include "kernels/scale.h"

#include <gtest/gtest.h>

#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

// One rounding of the product, one of the type it is stored in.
TEST(Scale, AgreesWithProductsOnEveryTargetAndType) {
  constexpr float kFactor = 0.37f;
  for (const DType from : {DType::kF32, DType::kBF16}) {
    for (const DType to : {DType::kF32, DType::kBF16}) {
      for (const auto [rows, cols] : test::KernelShapes()) {
        PaddedMatrix x(rows, cols, 3, 1, from);
        x.FillRandom(1);
        const auto values = x.DenseDouble();
        test::ForEachSimdTarget([&, rows = rows, cols = cols] {
          PaddedMatrix y(rows, cols, 1, 3, to);
          Scale(x.View(), kFactor, y.View());
          const std::vector<float> found = y.Dense();
          for (size_t i = 0; i < values.size(); ++i) {
            const double expected = double{kFactor} * values[i];
            ASSERT_LE(std::abs(found[i] - expected), (test::kFloatEps + test::StorageRoundoff(to)) * std::abs(expected))
                << i;
          }
          ASSERT_TRUE(y.GuardsIntact());
          if (from != to) return;
          PaddedMatrix in_place(rows, cols, 2, 2, from);
          in_place.Fill(x.Dense());
          Scale(in_place.View(), kFactor, in_place.View());
          ASSERT_TRUE(test::SameBits(in_place.Dense(), found));
        });
      }
    }
  }
}

TEST(Scale, MovesTowardsOnEveryTarget) {
  for (const auto [rows, cols] : test::KernelShapes()) {
    PaddedMatrix x(rows, cols, 3, 1), y(rows, cols, 2, 2);
    x.FillRandom(1), y.FillRandom(2);
    const auto a = x.DenseDouble(), b = y.DenseDouble();
    test::ForEachSimdTarget([&, rows = rows, cols = cols] {
      PaddedMatrix moved(rows, cols, 1, 3);
      moved.Fill(y.Dense());
      MoveTowards(x.View(), 0.125f, moved.View());
      const std::vector<float> found = moved.Dense();
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_LE(std::abs(found[i] - (0.125 * a[i] + 0.875 * b[i])),
                  test::kFloatEps * (std::abs(a[i]) + std::abs(b[i])))
            << i;
      }
      ASSERT_TRUE(moved.GuardsIntact());
    });
  }
}

TEST(Scale, AddsMultiplesOnEveryTarget) {
  for (const auto [rows, cols] : test::KernelShapes()) {
    PaddedMatrix x(rows, cols, 3, 1), y(rows, cols, 2, 2);
    x.FillRandom(1), y.FillRandom(2);
    const auto a = x.DenseDouble(), b = y.DenseDouble();
    test::ForEachSimdTarget([&, rows = rows, cols = cols] {
      PaddedMatrix sum(rows, cols, 1, 3);
      sum.Fill(y.Dense());
      AddScaled(x.View(), -1.75f, sum.View());
      const std::vector<float> found = sum.Dense();
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_LE(std::abs(found[i] - (b[i] - 1.75 * a[i])), test::kFloatEps * (std::abs(b[i]) + 2 * std::abs(a[i])))
            << i;
      }
      ASSERT_TRUE(sum.GuardsIntact());
    });
  }
}

TEST(Scale, ThreadsDoNotMatter) {
  PaddedMatrix x(130, 531);
  x.FillRandom(1);
  test::ExpectSameBitsForAnyThreads([&] {
    PaddedMatrix y(130, 531);
    Scale(x.View(), 0.7f, y.View());
    AddScaled(x.View(), 0.3f, y.View());
    return y.Dense();
  });
}

}  // namespace
}  // namespace taipan
