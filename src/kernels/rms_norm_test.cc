#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include "kernels/rms_norm_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;
using Inputs = reference::RmsNormInputs<double>;

constexpr float kEps = 1e-5f;

// A sum of n squares in any order is off by at most n u relative (u = eps / 2), half of it reaches 1 / sqrt; a dozen
// roundings more (silu is some 6 of them). The backward's dot product has n u again, relative to its terms.
double Tolerance(int64_t n) { return (static_cast<double>(n) + 16) * test::kFloatEps; }

Inputs MakeInputs(const PaddedMatrix& x, const PaddedMatrix* z, const std::vector<float>& weight, int64_t groups) {
  Inputs in;
  in.x = x.DenseDouble();
  if (z != nullptr) in.z = z->DenseDouble();
  in.weight = test::ConvertTo<double>(weight);
  in.eps = static_cast<double>(kEps);
  in.groups = static_cast<size_t>(groups);
  return in;
}

void CheckReferenceGradient(const Inputs& in) {
  const auto dout = test::RandomVector<double>(static_cast<int64_t>(in.x.size()), 9);
  const auto gradients = reference::RmsNormBackward(in, dout);
  const auto loss = [&](std::vector<double> Inputs::*member) {
    return [&, member](const std::vector<double>& value) {
      Inputs changed = in;
      changed.*member = value;
      return test::DotProduct(reference::RmsNorm(changed), dout);
    };
  };
  test::CheckGradient(loss(&Inputs::x), in.x, gradients.dx, "x");
  test::CheckGradient(loss(&Inputs::weight), in.weight, gradients.dweight, "weight");
  if (!in.z.empty()) test::CheckGradient(loss(&Inputs::z), in.z, gradients.dz, "z");
}

TEST(RmsNormReference, BackwardAgreesWithCentralDifferences) {
  PaddedMatrix x(3, 12), z(3, 12);
  x.FillRandom(1), z.FillRandom(2);
  const auto weight = test::RandomVector<float>(12, 3);
  CheckReferenceGradient(MakeInputs(x, nullptr, weight, 1));
  CheckReferenceGradient(MakeInputs(x, &z, weight, 1));
  CheckReferenceGradient(MakeInputs(x, &z, weight, 3));
}

TEST(RmsNorm, AgreesWithReferenceOnEveryTarget) {
  for (const auto [rows, cols] : test::KernelShapes()) {
    PaddedMatrix x(rows, cols, 3, 1), dy(rows, cols, 1, 2), before(rows, cols, 2, 3);
    x.FillRandom(1), dy.FillRandom(2), before.FillRandom(3);
    const auto weight = test::RandomVector<float>(cols, 4), dweight_before = test::RandomVector<float>(cols, 5);
    const Inputs in = MakeInputs(x, nullptr, weight, 1);
    const auto expected = reference::RmsNorm(in);
    const auto gradients = reference::RmsNormBackward(in, dy.DenseDouble());
    std::vector<double> dx_added = before.DenseDouble(), dweight_added = gradients.dweight;
    for (size_t i = 0; i < dx_added.size(); ++i) dx_added[i] += gradients.dx[i];
    for (size_t i = 0; i < weight.size(); ++i) dweight_added[i] += static_cast<double>(dweight_before[i]);

    test::ForEachSimdTarget([&, rows = rows, cols = cols] {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols);
      PaddedMatrix y(rows, cols, 5, 7), dx(rows, cols, 0, 1), added(rows, cols, 2, 3), in_place(rows, cols);
      std::vector<float> inv_rms(static_cast<size_t>(rows));
      RmsNorm(x.View(), weight.data(), kEps, y.View(), inv_rms.data());
      ASSERT_LE(test::RelativeFrobeniusError(y.Dense(), expected), Tolerance(cols));
      in_place.Fill(x.Dense());
      RmsNorm(in_place.View(), weight.data(), kEps, in_place.View(), nullptr);
      ASSERT_TRUE(test::SameBits(in_place.Dense(), y.Dense()));

      std::vector<float> dweight(weight.size()), dweight2 = dweight_before;
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(), dy.View(), dx.View(), Accumulate::kWrite,
                      dweight.data());
      // Where a width of one or two makes dx cancel to eps / mean(x^2) of its terms, these bound the error.
      const double inv = inv_rms.empty() ? 1 : test::MaxAbs(inv_rms);
      const double terms = 10 * test::MaxAbs(dy.Dense()) * test::MaxAbs(weight) * inv;
      if (cols > 4) {
        ASSERT_LE(test::RelativeFrobeniusError(dx.Dense(), gradients.dx), Tolerance(cols));
      }
      ASSERT_LE(test::MaxAbsError(dx.Dense(), gradients.dx), Tolerance(cols) * terms);
      ASSERT_LE(test::RelativeFrobeniusError(dweight, gradients.dweight), Tolerance(cols + rows));
      added.Fill(before.Dense());
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(), dy.View(), added.View(), Accumulate::kAdd,
                      dweight2.data());
      ASSERT_LE(test::MaxAbsError(added.Dense(), dx_added), Tolerance(cols) * (terms + 10));
      ASSERT_LE(test::RelativeFrobeniusError(dweight2, dweight_added), Tolerance(cols + rows));
      in_place.Fill(dy.Dense());
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(), in_place.View(), in_place.View(), Accumulate::kWrite,
                      dweight2.data());
      ASSERT_TRUE(test::SameBits(in_place.Dense(), dx.Dense()));
      ASSERT_TRUE(y.GuardsIntact() && dx.GuardsIntact() && added.GuardsIntact());
    });
  }
}

TEST(GatedRmsNorm, AgreesWithReferenceOnEveryTarget) {
  for (const auto [rows, group_size] : test::KernelShapes()) {
    for (const int64_t groups : {1, 3}) {
      const int64_t cols = group_size * groups;
      if (rows > 65 && groups > 1) continue;
      PaddedMatrix y(rows, cols, 3, 1), z(rows, cols, 2, 2), dout(rows, cols, 1, 3);
      y.FillRandom(1), z.FillRandom(2, 2.0), dout.FillRandom(3);
      const auto weight = test::RandomVector<float>(cols, 4), dweight_before = test::RandomVector<float>(cols, 5);
      const Inputs in = MakeInputs(y, &z, weight, groups);
      const auto expected = reference::RmsNorm(in);
      auto gradients = reference::RmsNormBackward(in, dout.DenseDouble());
      for (size_t i = 0; i < weight.size(); ++i) gradients.dweight[i] += static_cast<double>(dweight_before[i]);

      test::ForEachSimdTarget([&, rows = rows, group_size = group_size] {
        SCOPED_TRACE(testing::Message() << rows << " x " << groups << " x " << group_size);
        PaddedMatrix out(rows, cols, 5, 7), dy(rows, cols, 0, 1), dz(rows, cols, 2, 3);
        std::vector<float> inv_rms(static_cast<size_t>(rows * groups)), dweight = dweight_before;
        GatedRmsNorm(y.View(), z.View(), weight.data(), kEps, groups, out.View(), inv_rms.data());
        ASSERT_LE(test::RelativeFrobeniusError(out.Dense(), expected), Tolerance(group_size));
        GatedRmsNormBackward(y.View(), z.View(), weight.data(), inv_rms.data(), groups, dout.View(), dy.View(),
                             dz.View(), dweight.data());
        // |dv| terms <= inv |dout w| (1 + |v|^2 inv^2 ...): as for the plain norm, cancelling in narrow groups.
        const double terms = 40 * test::MaxAbs(dout.Dense()) * test::MaxAbs(weight) *
                             (inv_rms.empty() ? 1 : test::MaxAbs(inv_rms)) * std::max(1.0, test::MaxAbs(z.Dense()));
        if (group_size > 4) {
          ASSERT_LE(test::RelativeFrobeniusError(dy.Dense(), gradients.dx), Tolerance(group_size));
          ASSERT_LE(test::RelativeFrobeniusError(dz.Dense(), gradients.dz), Tolerance(group_size));
        }
        ASSERT_LE(test::MaxAbsError(dy.Dense(), gradients.dx), Tolerance(group_size) * terms);
        ASSERT_LE(test::MaxAbsError(dz.Dense(), gradients.dz), Tolerance(group_size) * terms);
        ASSERT_LE(test::RelativeFrobeniusError(dweight, gradients.dweight), Tolerance(group_size + rows));
        ASSERT_TRUE(out.GuardsIntact() && dy.GuardsIntact() && dz.GuardsIntact());
      });
    }
  }
}

TEST(GatedRmsNorm, MayOverwriteItsInputs) {
  PaddedMatrix y(3, 38), z(3, 38), dout(3, 38), out(3, 38), dy(3, 38), dz(3, 38);
  y.FillRandom(1), z.FillRandom(2), dout.FillRandom(3);
  const auto weight = test::RandomVector<float>(38, 4);
  test::ForEachSimdTarget([&] {
    std::vector<float> inv_rms(6), dweight(38);
    GatedRmsNorm(y.View(), z.View(), weight.data(), kEps, 2, out.View(), inv_rms.data());
    for (const bool over_z : {false, true}) {
      PaddedMatrix a(3, 38), b(3, 38);
      a.Fill(y.Dense()), b.Fill(z.Dense());
      PaddedMatrix& target = over_z ? b : a;
      GatedRmsNorm(a.View(), b.View(), weight.data(), kEps, 2, target.View(), nullptr);
      EXPECT_TRUE(test::SameBits(target.Dense(), out.Dense()));
    }
    GatedRmsNormBackward(y.View(), z.View(), weight.data(), inv_rms.data(), 2, dout.View(), dy.View(), dz.View(),
                         dweight.data());
    PaddedMatrix a(3, 38), b(3, 38);
    a.Fill(y.Dense()), b.Fill(z.Dense());
    GatedRmsNormBackward(a.View(), b.View(), weight.data(), inv_rms.data(), 2, dout.View(), a.View(), b.View(),
                         dweight.data());
    EXPECT_TRUE(test::SameBits(a.Dense(), dy.Dense()));
    EXPECT_TRUE(test::SameBits(b.Dense(), dz.Dense()));
  });
}

TEST(RmsNorm, ARowDoesNotDependOnTheOthers) {
  PaddedMatrix x(130, 97), y(130, 97), alone(1, 97);
  x.FillRandom(1);
  const auto weight = test::RandomVector<float>(97, 2);
  test::ForEachSimdTarget([&] {
    RmsNorm(x.View(), weight.data(), kEps, y.View(), nullptr);
    for (const int64_t row : {0, 63, 64, 129}) {
      RmsNorm(x.View().Rows(row, 1), weight.data(), kEps, alone.View(), nullptr);
      EXPECT_EQ(std::memcmp(alone.View().F32(), y.View().F32(row), 97 * sizeof(float)), 0) << "row " << row;
    }
  });
}

TEST(RmsNorm, ZeroRowsStayZero) {
  PaddedMatrix x(2, 19), y(2, 19);
  const std::vector<float> weight(19, 1.0f);
  test::ForEachSimdTarget([&] {
    std::vector<float> inv_rms(2);
    RmsNorm(x.View(), weight.data(), kEps, y.View(), inv_rms.data());
    EXPECT_EQ(test::MaxAbs(y.Dense()), 0);
    EXPECT_NEAR(inv_rms[1], 1 / std::sqrt(static_cast<double>(kEps)), 1e-4 * 316);
  });
}

TEST(RmsNorm, ThreadsDoNotMatter) {
  constexpr int64_t kRows = 200, kCols = 600;
  PaddedMatrix x(kRows, kCols), z(kRows, kCols), dy(kRows, kCols);
  x.FillRandom(1), z.FillRandom(2), dy.FillRandom(3);
  const auto weight = test::RandomVector<float>(kCols, 4);
  test::ForEachSimdTarget([&] {
    test::ExpectSameBitsForAnyThreads([&] {
      PaddedMatrix y(kRows, kCols), dx(kRows, kCols), dz(kRows, kCols);
      std::vector<float> inv_rms(kRows * 2), dweight(kCols), all;
      const auto keep = [&](const std::vector<float>& part) { all.insert(all.end(), part.begin(), part.end()); };
      RmsNorm(x.View(), weight.data(), kEps, y.View(), inv_rms.data());
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(), dy.View(), dx.View(), Accumulate::kWrite,
                      dweight.data());
      for (const auto& part : {y.Dense(), dx.Dense(), dweight}) keep(part);
      GatedRmsNorm(x.View(), z.View(), weight.data(), kEps, 2, y.View(), inv_rms.data());
      GatedRmsNormBackward(x.View(), z.View(), weight.data(), inv_rms.data(), 2, dy.View(), dx.View(), dz.View(),
                           dweight.data());
      for (const auto& part : {y.Dense(), dx.Dense(), dz.Dense(), dweight, inv_rms}) keep(part);
      return all;
    });
  });
}

TEST(RmsNorm, RefusesImpossibleCalls) {
  PaddedMatrix a(2, 6), b(2, 5);
  std::vector<float> weight(6), inv_rms(12);
  EXPECT_THROW(RmsNorm(a.View(), weight.data(), kEps, b.View(), nullptr), InternalError);
  EXPECT_THROW(GatedRmsNorm(a.View(), a.View(), weight.data(), kEps, 4, a.View(), nullptr), InternalError);
  EXPECT_THROW(
      RmsNormBackward(a.View(), weight.data(), inv_rms.data(), a.View(), a.View(), Accumulate::kAdd, weight.data()),
      InternalError);
}

}  // namespace
}  // namespace taipan
