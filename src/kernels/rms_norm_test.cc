#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include "kernels/rms_norm_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;
using Inputs = reference::RmsNormInputs<double>;

constexpr float kEps = 1e-5f;
Arena scratch;  // of the gated norm

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

// Types of x (and its gradient) and y (and its gradient). Inputs are bf16 numbers where that is their type, so only the
// results' rounding adds to the error of f32.
void ExpectNormAgrees(int64_t rows, int64_t cols, DType of_x, DType of_y) {
  PaddedMatrix x(rows, cols, 3, 1, of_x), dy(rows, cols, 1, 2, of_y), before(rows, cols, 2, 3, of_x);
  x.FillRandom(1), dy.FillRandom(2), before.FillRandom(3);
  const auto weight = test::RandomVector<float>(cols, 4), dweight_before = test::RandomVector<float>(cols, 5);
  const Inputs in = MakeInputs(x, nullptr, weight, 1);
  const auto expected = reference::RmsNorm(in);
  const auto gradients = reference::RmsNormBackward(in, dy.DenseDouble());
  std::vector<double> dx_added = before.DenseDouble(), dweight_added = gradients.dweight;
  for (size_t i = 0; i < dx_added.size(); ++i) dx_added[i] += gradients.dx[i];
  for (size_t i = 0; i < weight.size(); ++i) dweight_added[i] += static_cast<double>(dweight_before[i]);
  const double stored_y = test::StorageRoundoff(of_y), stored_x = test::StorageRoundoff(of_x);

  test::ForEachSimdTarget([&] {
    SCOPED_TRACE(testing::Message() << rows << " x " << cols << ", " << NameOf(of_x) << " to " << NameOf(of_y));
    PaddedMatrix y(rows, cols, 5, 7, of_y), dx(rows, cols, 0, 1, of_x), added(rows, cols, 2, 3, of_x);
    PaddedMatrix in_place(rows, cols, 0, 0, of_y);
    std::vector<float> inv_rms(static_cast<size_t>(rows));
    RmsNorm(x.View(), weight.data(), kEps, y.View(), inv_rms.data());
    ASSERT_LE(test::MaxRelativeError(y.Dense(), expected), Tolerance(cols) + stored_y);
    if (of_x == of_y) {
      in_place.Fill(x.Dense());
      RmsNorm(in_place.View(), weight.data(), kEps, in_place.View(), nullptr);
      ASSERT_TRUE(test::SameBits(in_place.Dense(), y.Dense()));
    }

    std::vector<float> dweight(weight.size()), dweight2 = dweight_before;
    RmsNormBackward(x.View(), weight.data(), inv_rms.data(),
                    {.dy = dy.View(), .dx = dx.View(), .dweight = dweight.data()});
    // Where a width of one or two makes dx cancel to eps / mean(x^2) of its terms, these bound the error.
    const double inv = inv_rms.empty() ? 1 : test::MaxAbs(inv_rms);
    const double terms = 10 * test::MaxAbs(dy.Dense()) * test::MaxAbs(weight) * inv;
    if (cols > 4) {
      ASSERT_LE(test::RelativeFrobeniusError(dx.Dense(), gradients.dx), Tolerance(cols) + stored_x);
    }
    ASSERT_LE(test::MaxAbsError(dx.Dense(), gradients.dx),
              Tolerance(cols) * terms + stored_x * test::MaxAbs(gradients.dx));
    ASSERT_LE(test::RelativeFrobeniusError(dweight, gradients.dweight), Tolerance(cols + rows));
    added.Fill(before.Dense());
    RmsNormBackward(x.View(), weight.data(), inv_rms.data(),
                    {.dy = dy.View(), .dx = added.View(), .acc = Accumulate::kAdd, .dweight = dweight2.data()});
    ASSERT_LE(test::MaxAbsError(added.Dense(), dx_added),
              Tolerance(cols) * (terms + 10) + stored_x * test::MaxAbs(dx_added));
    ASSERT_LE(test::RelativeFrobeniusError(dweight2, dweight_added), Tolerance(cols + rows));
    if (of_x == of_y) {
      in_place.Fill(dy.Dense());
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(),
                      {.dy = in_place.View(), .dx = in_place.View(), .dweight = dweight2.data()});
      ASSERT_TRUE(test::SameBits(in_place.Dense(), dx.Dense()));
    }
    ASSERT_TRUE(y.GuardsIntact() && dx.GuardsIntact() && added.GuardsIntact());
  });
}

TEST(RmsNorm, AgreesWithReferenceOnEveryTarget) {
  for (const auto [rows, cols] : test::KernelShapes()) ExpectNormAgrees(rows, cols, DType::kF32, DType::kF32);
}

TEST(RmsNorm, AgreesWithReferenceInBF16) {
  for (const auto [rows, cols] : test::KernelShapes()) {
    ExpectNormAgrees(rows, cols, DType::kF32, DType::kBF16);
    ExpectNormAgrees(rows, cols, DType::kBF16, DType::kBF16);
  }
}

void ExpectGatedNormAgrees(int64_t rows, int64_t group_size, int64_t groups, DType dtype) {
  const int64_t cols = group_size * groups;
  PaddedMatrix y(rows, cols, 3, 1, dtype), z(rows, cols, 2, 2, dtype), dout(rows, cols, 1, 3, dtype);
  y.FillRandom(1), z.FillRandom(2, 2.0), dout.FillRandom(3);
  const auto weight = test::RandomVector<float>(cols, 4), dweight_before = test::RandomVector<float>(cols, 5);
  const Inputs in = MakeInputs(y, &z, weight, groups);
  const auto expected = reference::RmsNorm(in);
  auto gradients = reference::RmsNormBackward(in, dout.DenseDouble());
  for (size_t i = 0; i < weight.size(); ++i) gradients.dweight[i] += static_cast<double>(dweight_before[i]);
  const double stored = test::StorageRoundoff(dtype);

  test::ForEachSimdTarget([&] {
    SCOPED_TRACE(testing::Message() << rows << " x " << groups << " x " << group_size << " " << NameOf(dtype));
    PaddedMatrix out(rows, cols, 5, 7, dtype), dy(rows, cols, 0, 1, dtype), dz(rows, cols, 2, 3, dtype);
    std::vector<float> inv_rms(static_cast<size_t>(rows * groups)), dweight = dweight_before;
    GatedRmsNorm({y.View(), z.View(), weight.data(), groups, kEps}, out.View(), inv_rms.data(), scratch);
    ASSERT_LE(test::MaxRelativeError(out.Dense(), expected), Tolerance(group_size) + stored);  // rounded once only
    GatedRmsNormBackward({y.View(), z.View(), weight.data(), groups}, inv_rms.data(),
                         {.dout = dout.View(), .dy = dy.View(), .dz = dz.View(), .dweight = dweight.data()});
    // |dv| terms <= inv |dout w| (1 + |v|^2 inv^2 ...): as for the plain norm, cancelling in narrow groups.
    const double terms = 40 * test::MaxAbs(dout.Dense()) * test::MaxAbs(weight) *
                         (inv_rms.empty() ? 1 : test::MaxAbs(inv_rms)) * std::max(1.0, test::MaxAbs(z.Dense()));
    if (group_size > 4) {
      ASSERT_LE(test::RelativeFrobeniusError(dy.Dense(), gradients.dx), Tolerance(group_size) + stored);
      ASSERT_LE(test::RelativeFrobeniusError(dz.Dense(), gradients.dz), Tolerance(group_size) + stored);
    }
    ASSERT_LE(test::MaxAbsError(dy.Dense(), gradients.dx),
              Tolerance(group_size) * terms + stored * test::MaxAbs(gradients.dx));
    ASSERT_LE(test::MaxAbsError(dz.Dense(), gradients.dz),
              Tolerance(group_size) * terms + stored * test::MaxAbs(gradients.dz));
    ASSERT_LE(test::RelativeFrobeniusError(dweight, gradients.dweight), Tolerance(group_size + rows));
    ASSERT_TRUE(out.GuardsIntact() && dy.GuardsIntact() && dz.GuardsIntact());
  });
}

TEST(GatedRmsNorm, AgreesWithReferenceOnEveryTarget) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const auto [rows, group_size] : test::KernelShapes()) {
      ExpectGatedNormAgrees(rows, group_size, 1, dtype);
      if (rows <= 65) ExpectGatedNormAgrees(rows, group_size, 3, dtype);
    }
  }
}

void ExpectGatedNormInPlace(DType dtype) {
  const PaddedMatrix empty(3, 38, 0, 0, dtype);
  PaddedMatrix y = empty, z = empty, dout = empty, out = empty, dy = empty, dz = empty;
  y.FillRandom(1), z.FillRandom(2), dout.FillRandom(3);
  const auto weight = test::RandomVector<float>(38, 4);
  test::ForEachSimdTarget([&] {
    std::vector<float> inv_rms(6), dweight(38);
    GatedRmsNorm({y.View(), z.View(), weight.data(), 2, kEps}, out.View(), inv_rms.data(), scratch);
    for (const bool over_z : {false, true}) {
      PaddedMatrix a = empty, b = empty;
      a.Fill(y.Dense()), b.Fill(z.Dense());
      PaddedMatrix& target = over_z ? b : a;
      GatedRmsNorm({a.View(), b.View(), weight.data(), 2, kEps}, target.View(), nullptr, scratch);
      EXPECT_TRUE(test::SameBits(target.Dense(), out.Dense()));
    }
    GatedRmsNormBackward({y.View(), z.View(), weight.data(), 2}, inv_rms.data(),
                         {.dout = dout.View(), .dy = dy.View(), .dz = dz.View(), .dweight = dweight.data()});
    PaddedMatrix a = empty, b = empty;
    a.Fill(y.Dense()), b.Fill(z.Dense());
    GatedRmsNormBackward({a.View(), b.View(), weight.data(), 2}, inv_rms.data(),
                         {.dout = dout.View(), .dy = a.View(), .dz = b.View(), .dweight = dweight.data()});
    EXPECT_TRUE(test::SameBits(a.Dense(), dy.Dense()));
    EXPECT_TRUE(test::SameBits(b.Dense(), dz.Dense()));
  });
}

TEST(GatedRmsNorm, MayOverwriteItsInputs) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) ExpectGatedNormInPlace(dtype);
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

void ExpectNormSameForAnyThreads(DType dtype) {
  constexpr int64_t kRows = 200, kCols = 600;
  const PaddedMatrix empty(kRows, kCols, 0, 0, dtype);
  PaddedMatrix x = empty, z = empty, dy = empty;
  x.FillRandom(1), z.FillRandom(2), dy.FillRandom(3);
  const auto weight = test::RandomVector<float>(kCols, 4);
  test::ForEachSimdTarget([&] {
    test::ExpectSameBitsForAnyThreads([&] {
      PaddedMatrix y = empty, dx = empty, dz = empty;
      std::vector<float> inv_rms(kRows * 2), dweight(kCols), all;
      const auto keep = [&](const std::vector<float>& part) { all.insert(all.end(), part.begin(), part.end()); };
      RmsNorm(x.View(), weight.data(), kEps, y.View(), inv_rms.data());
      RmsNormBackward(x.View(), weight.data(), inv_rms.data(),
                      {.dy = dy.View(), .dx = dx.View(), .dweight = dweight.data()});
      for (const auto& part : {y.Dense(), dx.Dense(), dweight}) keep(part);
      GatedRmsNorm({x.View(), z.View(), weight.data(), 2, kEps}, y.View(), inv_rms.data(), scratch);
      GatedRmsNormBackward({x.View(), z.View(), weight.data(), 2}, inv_rms.data(),
                           {.dout = dy.View(), .dy = dx.View(), .dz = dz.View(), .dweight = dweight.data()});
      for (const auto& part : {y.Dense(), dx.Dense(), dz.Dense(), dweight, inv_rms}) keep(part);
      return all;
    });
  });
}

TEST(RmsNorm, ThreadsDoNotMatter) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) ExpectNormSameForAnyThreads(dtype);
}

TEST(RmsNorm, RefusesImpossibleCalls) {
  PaddedMatrix a(2, 6), b(2, 5);
  std::vector<float> weight(6), inv_rms(12);
  EXPECT_THROW(RmsNorm(a.View(), weight.data(), kEps, b.View(), nullptr), InternalError);
  EXPECT_THROW(GatedRmsNorm({a.View(), a.View(), weight.data(), 4, kEps}, a.View(), nullptr, scratch), InternalError);
  PaddedMatrix half(2, 6, 0, 0, DType::kBF16);
  EXPECT_THROW(RmsNorm(half.View(), weight.data(), kEps, a.View(), nullptr), InternalError);
  EXPECT_THROW(GatedRmsNorm({half.View(), a.View(), weight.data(), 1, kEps}, a.View(), nullptr, scratch),
               InternalError);
  EXPECT_THROW(RmsNormBackward(a.View(), weight.data(), inv_rms.data(),
                               {.dy = a.View(), .dx = a.View(), .acc = Accumulate::kAdd, .dweight = weight.data()}),
               InternalError);
}

}  // namespace
}  // namespace taipan
