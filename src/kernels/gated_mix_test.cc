#include "kernels/gated_mix.h"

#include <gtest/gtest.h>

#include "kernels/gate_noise.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

constexpr int64_t kTokens = 9, kWidth = 37;
const std::vector<uint8_t> kSelected = {1, 0, 1, 1, 0, 0, 1, 0, 1};

using Row = std::vector<double>;

// r = m ((1 - alpha) h + alpha o) + (1 - m) h, or h + m alpha o; o of every token.
Row Mixed(Refinement refinement, const Row& h, const Row& o, const Row& alpha, const Row& m) {
  const double mix = refinement == Refinement::kMix ? 1 : 0;
  Row r = h;
  for (size_t i = 0; i < r.size(); ++i) {
    const size_t t = i / kWidth;
    r[i] = m[t] * ((1 - mix * alpha[t]) * h[i] + alpha[t] * o[i]) + (1 - m[t]) * h[i];
  }
  return r;
}

Row Hard() { return {kSelected.begin(), kSelected.end()}; }

struct Problem {
  Refinement refinement = Refinement::kMix;
  Row h = test::RandomVector<double>(kTokens * kWidth, 1), o = test::RandomVector<double>(kTokens * kWidth, 2);
  Row pull = test::RandomVector<double>(kTokens * kWidth, 3), alpha;
  explicit Problem(Refinement r) : refinement(r) {
    for (int64_t t = 0; t < kTokens; ++t) alpha.push_back(0.05 + 0.1 * static_cast<double>(t));
    for (Row* row : {&h, &o, &pull, &alpha}) {
      for (double& v : *row) v = static_cast<double>(static_cast<float>(v));
    }
  }
};

struct Result {
  std::vector<float> mixed, dh, d_o, dm, dalpha;
};

// rows: of which attention was computed; null: of all.
Result RunMix(const Problem& p, const std::vector<int64_t>* rows) {
  std::vector<float> alpha = test::ConvertTo<float>(p.alpha);
  std::vector<uint8_t> selected = kSelected;
  const GateValues gate{nullptr, alpha.data(), nullptr, selected.data()};
  const int64_t n = rows ? static_cast<int64_t>(rows->size()) : kTokens;
  PaddedMatrix h(kTokens, kWidth, 3, 1), before(kTokens, kWidth, 1, 2), o(n, kWidth, 2, 1), dh(kTokens, kWidth, 1, 1);
  PaddedMatrix d_o(n, kWidth, 1, 3);
  h.Fill(test::ConvertTo<float>(p.h));
  before.Fill(test::ConvertTo<float>(p.h));
  dh.Fill(test::ConvertTo<float>(p.pull));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = rows ? (*rows)[static_cast<size_t>(i)] : i;
    for (int64_t c = 0; c < kWidth; ++c) {
      o.View().F32(i)[c] = static_cast<float>(p.o[static_cast<size_t>(row * kWidth + c)]);
    }
  }
  const int64_t* indices = rows ? rows->data() : nullptr;
  GatedMix(p.refinement, gate, indices, o.View(), h.View());
  Result r{h.Dense(), {}, {}, std::vector<float>(kTokens, 0.5f), std::vector<float>(kTokens, 0.0f)};
  const ConstMatrixView entry = p.refinement == Refinement::kMix ? before.View() : MatrixView();
  GatedMixBackward(p.refinement, {gate, indices, o.View(), entry}, dh.View(), d_o.View(), r.dm.data(), r.dalpha.data());
  r.dh = dh.Dense();
  r.d_o = d_o.Dense();
  EXPECT_TRUE(h.GuardsIntact() && dh.GuardsIntact() && d_o.GuardsIntact());
  return r;
}

constexpr double kTolerance = 4 * test::kFloatEps;  // two products and a sum

class GatedMixTest : public testing::TestWithParam<Refinement> {};
INSTANTIATE_TEST_SUITE_P(Refinements, GatedMixTest, testing::Values(Refinement::kMix, Refinement::kResidual),
                         [](const auto& of) { return of.param == Refinement::kMix ? "mix" : "residual"; });

TEST_P(GatedMixTest, RefinesSelectedTokensAndLetsOthersPass) {
  const Problem p(GetParam());
  const Row expected = Mixed(p.refinement, p.h, p.o, p.alpha, Hard());
  const std::vector<int64_t> picked = {0, 2, 3, 6, 8};
  for (const auto* rows : {static_cast<const std::vector<int64_t>*>(nullptr), &picked}) {
    const Result r = RunMix(p, rows);
    EXPECT_LE(test::RelativeFrobeniusError(r.mixed, expected), kTolerance);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (!kSelected[i / kWidth]) {
        EXPECT_EQ(r.mixed[i], static_cast<float>(p.h[i]));
      }
    }
  }
}

// Of every input, in double precision; m_hard and alpha are independent inputs of the formula.
TEST_P(GatedMixTest, GradientsAreThoseOfTheFormula) {
  const Problem p(GetParam());
  const Result r = RunMix(p, nullptr);
  const auto loss = [&](const Row& h, const Row& o, const Row& alpha, const Row& m) {
    return test::DotProduct(Mixed(p.refinement, h, o, alpha, m), p.pull);
  };
  const auto doubles = [](const std::vector<float>& v) { return Row(v.begin(), v.end()); };
  const double step = 0x1p-10;  // the formula is linear in each of them
  const auto check = [&](const char* name, const Row& x, const Row& analytic, auto&& f) {
    for (size_t i = 0; i < x.size(); ++i) {
      Row up = x, down = x;
      up[i] += step;
      down[i] -= step;
      EXPECT_NEAR((f(up) - f(down)) / (2 * step), analytic[i], 3e-5) << name << " " << i;
    }
  };
  check("h", p.h, doubles(r.dh), [&](const Row& x) { return loss(x, p.o, p.alpha, Hard()); });
  check("o", p.o, doubles(r.d_o), [&](const Row& x) { return loss(p.h, x, p.alpha, Hard()); });
  check("alpha", p.alpha, doubles(r.dalpha), [&](const Row& x) { return loss(p.h, p.o, x, Hard()); });
  Row dm = doubles(r.dm);
  for (double& v : dm) v -= 0.5;  // added to what was there
  check("m", Hard(), dm, [&](const Row& x) { return loss(p.h, p.o, p.alpha, x); });
}

TEST_P(GatedMixTest, RowsWithoutAttentionHaveNoGradientOfM) {
  const Problem p(GetParam());
  const std::vector<int64_t> picked = {0, 2, 3, 6, 8};
  const Result all = RunMix(p, nullptr), some = RunMix(p, &picked);
  for (size_t t = 0; t < kTokens; ++t) {
    EXPECT_EQ(some.dm[t], kSelected[t] ? all.dm[t] : 0.5f);
    EXPECT_EQ(some.dalpha[t], all.dalpha[t]);
  }
  EXPECT_EQ(some.dh, all.dh);
}

TEST_P(GatedMixTest, SameBitsForAnyThreads) {
  test::ExpectSameBitsForAnyThreads([] {
    const Result r = RunMix(Problem(GetParam()), nullptr);
    std::vector<float> all = r.mixed;
    for (const auto* part : {&r.dh, &r.d_o, &r.dm, &r.dalpha}) all.insert(all.end(), part->begin(), part->end());
    return all;
  });
}

TEST(GateNoise, IsAFunctionOfKeyAndIndex) {
  const RandomKey key{.seed = 3, .stream = kGumbelStream, .step = 5};
  std::vector<float> whole(2 * 600), part(2 * 100);
  GumbelPairs(key, 1000, 600, whole.data());
  GumbelPairs(key, 1300, 100, part.data());
  EXPECT_EQ(std::vector<float>(whole.begin() + 600, whole.begin() + 800), part);
  const auto pair = RandomGumbelPair(key, 1007);
  EXPECT_EQ(whole[14], pair[0]);
  EXPECT_EQ(whole[15], pair[1]);
}

TEST(GateNoise, DecisivePairsSelectTheShare) {
  constexpr int64_t kDraws = 20000;
  std::vector<float> pairs(2 * kDraws);
  DecisivePairs({.seed = 3, .stream = kGumbelStream}, 0, kDraws, 0.15, pairs.data());
  int64_t selected = 0;
  for (int64_t i = 0; i < kDraws; ++i) selected += pairs[static_cast<size_t>(2 * i + 1)] > 0;
  // Five standard deviations of a binomial count.
  EXPECT_NEAR(static_cast<double>(selected), 0.15 * kDraws, 5 * std::sqrt(kDraws * 0.15 * 0.85));
}

}  // namespace
}  // namespace taipan
