#include "kernels/relu2.h"

#include <gtest/gtest.h>

#include "kernels/relu2_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

TEST(Relu2Reference, BackwardAgreesWithCentralDifferences) {
  const auto x = test::RandomVector<double>(29, 1), dy = test::RandomVector<double>(29, 2);
  const auto of_x = [&](const auto& at) { return test::DotProduct(reference::Relu2(at), dy); };
  test::CheckGradient(of_x, x, reference::Relu2Backward(x, dy), "x");
}

// One product forward, two backward, each rounded once.
void ExpectRelu2Agrees(DType dtype) {
  auto shapes = test::KernelShapes();
  shapes.push_back({3, 0});
  const double bound = 2 * test::kFloatEps + test::StorageRoundoff(dtype);
  const auto expect_close = [&](const std::vector<float>& actual, const std::vector<double>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_LE(std::abs(actual[i] - expected[i]), bound * std::abs(expected[i])) << i;
    }
  };
  for (const auto [rows, cols] : shapes) {
    PaddedMatrix x(rows, cols, 3, 1, dtype), dy(rows, cols, 2, 2, dtype);
    x.FillRandom(1), dy.FillRandom(2);
    const auto y = reference::Relu2(x.DenseDouble()), dx = reference::Relu2Backward(x.DenseDouble(), dy.DenseDouble());
    test::ForEachSimdTarget([&, rows = rows, cols = cols] {
      PaddedMatrix out(rows, cols, 1, 3, dtype), gradient(rows, cols, 4, 7, dtype);
      Relu2(x.View(), out.View());
      expect_close(out.Dense(), y);
      Relu2Backward(x.View(), dy.View(), gradient.View());
      expect_close(gradient.Dense(), dx);
      ASSERT_TRUE(out.GuardsIntact() && gradient.GuardsIntact());
      PaddedMatrix again(rows, cols, 3, 1, dtype);
      again.Fill(x.Dense());
      Relu2Backward(again.View(), dy.View(), again.View());
      ASSERT_TRUE(test::SameBits(again.Dense(), gradient.Dense()));
    });
  }
}

TEST(Relu2, AgreesWithReferenceOnEveryTarget) {
  ExpectRelu2Agrees(DType::kF32);
  ExpectRelu2Agrees(DType::kBF16);
}

TEST(Relu2, ThreadsDoNotMatter) {
  PaddedMatrix x(130, 531), dy(130, 531);
  x.FillRandom(1), dy.FillRandom(2);
  test::ExpectSameBitsForAnyThreads([&] {
    PaddedMatrix y(130, 531), dx(130, 531);
    Relu2(x.View(), y.View());
    Relu2Backward(x.View(), dy.View(), dx.View());
    std::vector<float> all = y.Dense();
    for (const float value : dx.Dense()) all.push_back(value);
    return all;
  });
}

}  // namespace
}  // namespace taipan
