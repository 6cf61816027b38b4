#include "kernels/swiglu.h"

#include <gtest/gtest.h>

#include "kernels/swiglu_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

// exp 1 ulp, the sum, the quotient, two or three products and as many sums with cancellation in the derivative
// (s + x s (1 - s), where |x s (1 - s)| < 0.23 |terms|): below 8 roundings of at most 1 eps each. The floor covers what
// underflows: exp is zero below -104.
void ExpectClose(const std::vector<float>& actual, const std::vector<double>& expected,
                 const std::vector<double>& scale, DType dtype = DType::kF32) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected[i]),
              (8 * test::kFloatEps + test::StorageRoundoff(dtype)) * std::abs(scale[i]) + 1e-35)
        << i << ": " << actual[i] << " against " << expected[i];
  }
}

TEST(SwigluReference, BackwardAgreesWithCentralDifferences) {
  const auto gate = test::RandomVector<double>(23, 1, 3.0), up = test::RandomVector<double>(23, 2),
             dy = test::RandomVector<double>(23, 3);
  std::vector<double> dgate, dup;
  reference::SwigluBackward(gate, up, dy, dgate, dup);
  const auto of_gate = [&](const auto& x) { return test::DotProduct(reference::Swiglu(x, up), dy); };
  const auto of_up = [&](const auto& x) { return test::DotProduct(reference::Swiglu(gate, x), dy); };
  test::CheckGradient(of_gate, gate, dgate, "gate");
  test::CheckGradient(of_up, up, dup, "up");
}

void ExpectSwigluAgrees(DType dtype) {
  auto shapes = test::KernelShapes();
  shapes.push_back({3, 0});
  for (const auto [rows, cols] : shapes) {
    PaddedMatrix gate(rows, cols, 3, 1, dtype), up(rows, cols, 0, 5, dtype), dy(rows, cols, 2, 2, dtype);
    gate.FillRandom(1, 4.0), up.FillRandom(2), dy.FillRandom(3);
    const auto g = gate.DenseDouble(), u = up.DenseDouble(), grad = dy.DenseDouble();
    std::vector<double> dg, du, scale_dg(g.size());
    reference::SwigluBackward(g, u, grad, dg, du);
    for (size_t i = 0; i < g.size(); ++i) {
      scale_dg[i] = grad[i] * u[i] * reference::Sigmoid(g[i]) * (1 + std::abs(g[i]));
    }
    const auto y = reference::Swiglu(g, u);
    test::ForEachSimdTarget([&, rows = rows, cols = cols] {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols);
      PaddedMatrix out(rows, cols, 1, 3, dtype), dgate(rows, cols, 4, 7, dtype), dup(rows, cols, 1, 0, dtype);
      Swiglu(gate.View(), up.View(), out.View());
      ExpectClose(out.Dense(), y, y, dtype);
      SwigluBackward(gate.View(), up.View(), dy.View(), dgate.View(), dup.View());
      ExpectClose(dgate.Dense(), dg, scale_dg, dtype);
      ExpectClose(dup.Dense(), du, du, dtype);
      ASSERT_TRUE(out.GuardsIntact() && dgate.GuardsIntact() && dup.GuardsIntact());
    });
  }
}

TEST(Swiglu, AgreesWithReferenceOnEveryTarget) {
  ExpectSwigluAgrees(DType::kF32);
  ExpectSwigluAgrees(DType::kBF16);
}

TEST(Swiglu, LargeGatesNeitherOverflowNorGiveNan) {
  const std::vector<float> gates = {0.0f,    -0.0f, 1e-30f, 20.0f, -20.0f, 88.5f, -88.5f, 104.5f,
                                    -104.5f, 3e4f,  -3e4f,  1e30f, -1e30f, 3e38f, -3e38f};
  const int64_t n = static_cast<int64_t>(gates.size());
  const std::vector<float> ones(gates.size(), 1.0f);
  const auto g = test::ConvertTo<double>(gates);
  const std::vector<double> one(gates.size(), 1.0);
  std::vector<double> dg, du;
  reference::SwigluBackward(g, one, one, dg, du);
  test::ForEachSimdTarget([&] {
    std::vector<float> y(gates.size()), dgate(gates.size()), dup(gates.size());
    const ConstMatrixView gate(gates.data(), 1, n), up(ones.data(), 1, n);
    Swiglu(gate, up, {y.data(), 1, n});
    SwigluBackward(gate, up, up, {dgate.data(), 1, n}, {dup.data(), 1, n});
    ExpectClose(y, du, du);
    ExpectClose(dup, du, du);
    ExpectClose(dgate, dg, std::vector<double>(gates.size(), 1.0));
  });
}

void ExpectSwigluInPlace(DType dtype) {
  const PaddedMatrix empty(3, 37, 0, 0, dtype);
  PaddedMatrix gate = empty, up = empty, dy = empty, dgate = empty, dup = empty;
  gate.FillRandom(1), up.FillRandom(2), dy.FillRandom(3);
  test::ForEachSimdTarget([&] {
    PaddedMatrix g = empty, u = empty;
    g.Fill(gate.Dense()), u.Fill(up.Dense());
    SwigluBackward(gate.View(), up.View(), dy.View(), dgate.View(), dup.View());
    SwigluBackward(g.View(), u.View(), dy.View(), g.View(), u.View());
    EXPECT_TRUE(test::SameBits(g.Dense(), dgate.Dense()));
    EXPECT_TRUE(test::SameBits(u.Dense(), dup.Dense()));
  });
}

TEST(Swiglu, GradientsMayOverwriteTheInputs) {
  ExpectSwigluInPlace(DType::kF32);
  ExpectSwigluInPlace(DType::kBF16);
}

TEST(Swiglu, ThreadsDoNotMatter) {
  PaddedMatrix gate(130, 531), up(130, 531), dy(130, 531);
  gate.FillRandom(1), up.FillRandom(2), dy.FillRandom(3);
  test::ExpectSameBitsForAnyThreads([&] {
    PaddedMatrix y(130, 531), dgate(130, 531), dup(130, 531);
    Swiglu(gate.View(), up.View(), y.View());
    SwigluBackward(gate.View(), up.View(), dy.View(), dgate.View(), dup.View());
    std::vector<float> all = y.Dense();
    for (const auto& more : {dgate.Dense(), dup.Dense()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  });
}

TEST(Swiglu, RefusesOtherShapes) {
  PaddedMatrix a(2, 4), b(2, 5), c(3, 4), half(2, 4, 0, 0, DType::kBF16);
  EXPECT_THROW(Swiglu(a.View(), b.View(), a.View()), InternalError);
  EXPECT_THROW(Swiglu(a.View(), a.View(), c.View()), InternalError);
  EXPECT_THROW(Swiglu(half.View(), half.View(), a.View()), InternalError);
}

}  // namespace
}  // namespace taipan
