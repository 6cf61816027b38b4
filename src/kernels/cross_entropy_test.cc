#include "kernels/cross_entropy.h"

#include "kernels/convert.h"
#include "kernels/cross_entropy_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using reference::HeadProblem;
using test::PaddedMatrix;

constexpr double kUnit = test::kFloatEps / 2;  // unit roundoff of f32

std::vector<int32_t> RandomTargets(int64_t n, int64_t vocab) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) {
    out.push_back(static_cast<int32_t>(
        RandomBelow({.seed = 11, .stream = kTestStream}, static_cast<uint64_t>(i), static_cast<uint64_t>(vocab))));
  }
  return out;
}

// Logits of standard deviation 2.
HeadProblem<double> RandomProblem(int64_t n, int64_t d, int64_t vocab, bool weighted, DType dtype = DType::kF32) {
  const double spread = 2.0 / std::sqrt(static_cast<double>(d));
  HeadProblem<double> p{n,
                        d,
                        vocab,
                        test::Stored(test::RandomVector<double>(n * d, 1), dtype),
                        test::Stored(test::RandomVector<double>(vocab * d, 2, spread), dtype),
                        RandomTargets(n, vocab),
                        {},
                        1.0};
  if (weighted) {
    p.weights = test::RandomVector<double>(n, 3);
    for (double& w : p.weights) w = std::abs(w);
    p.scale = 0.125;
  }
  return p;
}

// How the views of a kernel call lie in memory: floats between rows and from an aligned address.
struct Layout {
  int64_t gap = 0, offset = 0;
};

struct KernelResult {
  double loss = 0;
  std::vector<float> logprobs, dh, dw;
  bool guards_intact = true;

  std::vector<float> Everything() const {
    std::vector<float> all = {static_cast<float>(loss)};
    for (const auto* part : {&logprobs, &dh, &dw}) all.insert(all.end(), part->begin(), part->end());
    return all;
  }
};

// dw starts from `dw_start` (zeros where empty), dh from rubbish.
KernelResult RunKernel(const HeadProblem<double>& p, Layout layout = {}, const std::vector<float>& dw_start = {},
                       bool gradient = true, DType dtype = DType::kF32) {
  Tensor weight({p.vocab, p.d}), rounded;
  std::copy(p.w.begin(), p.w.end(), weight.F32());
  if (dtype == DType::kBF16) {
    rounded = Tensor({p.vocab, p.d}, DType::kBF16);
    Convert(weight.Matrix(), rounded.Matrix());
  }
  const LinearWeight head{weight.Matrix(), rounded.Matrix()};
  PaddedMatrix h(p.n, p.d, layout.gap, layout.offset, dtype), dh(p.n, p.d, layout.gap, layout.offset + 1);
  PaddedMatrix dw(p.vocab, p.d, layout.gap, layout.offset);
  h.Fill(test::ConvertTo<float>(p.h));
  dh.FillRandom(99);
  if (!dw_start.empty()) dw.Fill(dw_start);
  const std::vector<float> weights = test::ConvertTo<float>(p.weights);
  const HeadGradients out = {static_cast<float>(p.scale), dh.View(), dw.View()};
  KernelResult result;
  result.logprobs.resize(static_cast<size_t>(p.n));
  Arena scratch;
  result.loss = HeadCrossEntropy({h.View(), head, p.targets, weights}, result.logprobs.data(),
                                 gradient ? &out : nullptr, scratch);
  result.dh = dh.Dense();
  result.dw = dw.Dense();
  result.guards_intact = dh.GuardsIntact() && dw.GuardsIntact() && h.GuardsIntact();
  return result;
}

// One row with the given logits, exactly: d = 1, h = 1, W = logits.
HeadProblem<double> RowOfLogits(const std::vector<float>& logits, int32_t target) {
  return {1, 1, static_cast<int64_t>(logits.size()), {1.0}, test::ConvertTo<double>(logits), {target}, {}, 1.0};
}

TEST(CrossEntropyReference, GradientsMatchCentralDifferences) {
  const HeadProblem<double> p = RandomProblem(4, 3, 5, true);
  std::vector<double> dh(p.h.size()), dw(p.w.size());
  HeadCrossEntropyBackward(p, dh, dw);
  const auto of_h = [&](const std::vector<double>& x) {
    HeadProblem<double> q = p;
    q.h = x;
    return q.scale * HeadCrossEntropy(q);
  };
  const auto of_w = [&](const std::vector<double>& x) {
    HeadProblem<double> q = p;
    q.w = x;
    return q.scale * HeadCrossEntropy(q);
  };
  test::CheckGradient(of_h, p.h, dh, "h");
  test::CheckGradient(of_w, p.w, dw, "w");
}

void ExpectMatchesReference(const HeadProblem<double>& p, Layout layout, DType dtype = DType::kF32) {
  const std::vector<float> start = test::RandomVector<float>(p.vocab * p.d, 5);
  std::vector<double> dh(p.h.size()), dw(p.w.size()), logprobs;
  const double loss = HeadCrossEntropy(p, &logprobs);
  HeadCrossEntropyBackward(p, dh, dw);
  // A logit is a sum of d products, each at most max|h| max|w|. A log-probability moves by at most twice the error of
  // the logits; exp and the rounding of its argument (|x| < 32) add 34 unit roundoffs.
  const double logit_error =
      static_cast<double>(p.d + 1) * kUnit * static_cast<double>(p.d) * test::MaxAbs(p.h) * test::MaxAbs(p.w);
  const double error = 2 * logit_error + 34 * kUnit;
  // The probabilities carry that as a relative error; sums over V or n of independent roundings grow with the root.
  const double sums = 8 * kUnit * std::sqrt(static_cast<double>(std::max(p.vocab, p.n)));
  // In bf16 the gradient of each logit is rounded on its way into the products.
  const double gradient_error = error + sums + test::StorageRoundoff(dtype);
  test::ForEachSimdTarget([&] {
    const KernelResult got = RunKernel(p, layout, start, true, dtype);
    EXPECT_LE(test::MaxAbsError(got.logprobs, logprobs), error);
    double weight_sum = 0;
    for (int64_t i = 0; i < p.n; ++i) weight_sum += p.weight(i);
    EXPECT_LE(std::abs(got.loss - loss), error * weight_sum);
    EXPECT_LE(test::RelativeFrobeniusError(got.dh, dh), gradient_error);
    std::vector<double> added(got.dw.begin(), got.dw.end());
    for (size_t i = 0; i < added.size(); ++i) added[i] -= static_cast<double>(start[i]);
    // Rounding each sum with a start value of size 1 adds a unit roundoff of it per chunk of rows.
    const double start_error = 2 * kUnit * test::MaxAbs(start) * std::sqrt(static_cast<double>(added.size()));
    EXPECT_LE(test::RelativeFrobeniusError(added, dw) * std::sqrt(test::DotProduct(dw, dw)),
              gradient_error * std::sqrt(test::DotProduct(dw, dw)) + start_error);
    EXPECT_TRUE(got.guards_intact);
  });
}

TEST(CrossEntropy, MatchesTheReference) {
  for (const int64_t vocab : {2, 15, 16, 17, 31, 33, 97, 256}) {
    for (const int64_t n : {1, 5, 16, 37}) {
      SCOPED_TRACE(testing::Message() << "vocab " << vocab << ", n " << n);
      ExpectMatchesReference(RandomProblem(n, 19, vocab, n % 2 == 1), {.gap = 3, .offset = 1});
    }
  }
}

TEST(CrossEntropy, MatchesTheReferenceOverSeveralChunks) {
  ExpectMatchesReference(RandomProblem(1030, 5, 97, true), {});
  ExpectMatchesReference(RandomProblem(1030, 6, 97, true, DType::kBF16), {}, DType::kBF16);
}

TEST(CrossEntropy, MatchesTheReferenceInBF16) {
  for (const int64_t vocab : {2, 15, 16, 17, 31, 33, 97, 256}) {
    for (const int64_t n : {1, 5, 16, 37}) {
      SCOPED_TRACE(testing::Message() << "vocab " << vocab << ", n " << n);
      ExpectMatchesReference(RandomProblem(n, 19, vocab, n % 2 == 1, DType::kBF16), {.gap = 3, .offset = 1},
                             DType::kBF16);
    }
  }
  ExpectMatchesReference(RandomProblem(23, 4, 50288, true, DType::kBF16), {}, DType::kBF16);
}

TEST(CrossEntropy, MatchesTheReferenceWithALargeVocabulary) {
  ExpectMatchesReference(RandomProblem(3, 4, 50288, false), {});
  ExpectMatchesReference(RandomProblem(23, 4, 50288, true), {});
}

// With exact logits what remains is: exp within 1 ulp, its argument rounded (|x - top| unit roundoffs of relative
// error, weighted by the probabilities), and the result rounded to f32.
TEST(CrossEntropy, LogProbabilitiesAreAccurateForWideRows) {
  for (const int64_t vocab : {1, 97, 50288, 128256}) {
    for (const double spread : {0.0, 1.0, 8.0}) {
      const std::vector<float> logits = test::RandomVector<float>(vocab, 21, spread, 3.0);
      const HeadProblem<double> p = RowOfLogits(logits, static_cast<int32_t>(vocab / 2));
      const std::vector<double> expected = LogSoftmaxRow(p, 0);
      const double top = *std::max_element(p.w.begin(), p.w.end());
      double distance = 0;
      for (size_t v = 0; v < expected.size(); ++v) distance += std::exp(expected[v]) * (top - p.w[v]);
      const double logprob = expected[static_cast<size_t>(vocab / 2)];
      const double bound = kUnit * (2 + distance) + 1e-12;
      EXPECT_LE(bound, 1e-6);
      test::ForEachSimdTarget([&] {
        const KernelResult got = RunKernel(p, {}, {}, false);
        EXPECT_LE(std::abs(-got.loss - logprob), bound) << vocab << " logits, spread " << spread;
        EXPECT_LE(std::abs(got.logprobs[0] - logprob), bound + kUnit * std::abs(logprob));
      });
    }
  }
}

TEST(CrossEntropy, ConfidentRowsKeepTheirGradient) {
  // p(target) = 1 - 2 exp(-20) / (1 + 2 exp(-20)): the gradient of the target's logit is far below f32's epsilon.
  const HeadProblem<double> p = RowOfLogits({20.0f, 0.0f, 0.0f}, 0);
  test::ForEachSimdTarget([&] {
    const KernelResult got = RunKernel(p);
    const double expected = -2 * std::exp(-20.0) / (1 + 2 * std::exp(-20.0));
    EXPECT_NEAR(got.dw[0] / expected, 1.0, 1e-6);
  });
}

TEST(CrossEntropy, HugeLogitsDoNotOverflow) {
  for (const int32_t target : {0, 1}) {
    const HeadProblem<double> p = RowOfLogits({1e38f, -1e38f, 0.0f, 88.0f, -1e4f}, target);
    test::ForEachSimdTarget([&] {
      const KernelResult got = RunKernel(p);
      EXPECT_EQ(got.loss, target == 0 ? 0.0 : static_cast<double>(1e38f) * 2);
      const std::vector<float> expected =
          target == 0 ? std::vector<float>{0, 0, 0, 0, 0} : std::vector<float>{1, -1, 0, 0, 0};
      EXPECT_EQ(got.dw, expected);
    });
  }
}

TEST(CrossEntropy, OnlyDifferencesOfLogitsCount) {
  // 37 logits: the end of the row is a part of a vector on every target. Multiples of 1/4 near 1e4 are exact.
  std::vector<float> logits;
  for (int i = 0; i < 37; ++i) logits.push_back(0.25f * static_cast<float>(i % 7));
  const double expected = LogSoftmaxRow(RowOfLogits(logits, 36), 0)[36];
  for (const float shift : {-1e4f, -200.0f, 200.0f, 1e4f}) {
    std::vector<float> shifted = logits;
    for (float& x : shifted) x += shift;
    test::ForEachSimdTarget([&] { EXPECT_NEAR(-RunKernel(RowOfLogits(shifted, 36)).loss, expected, 4 * kUnit); });
  }
}

TEST(CrossEntropy, NanInAnyLogitReachesLossAndGradient) {
  constexpr int64_t kVocab = 37;
  for (int64_t at = 0; at < kVocab; ++at) {
    std::vector<float> logits = test::RandomVector<float>(kVocab, 31);
    logits[static_cast<size_t>(at)] = std::numeric_limits<float>::quiet_NaN();
    const HeadProblem<double> p = RowOfLogits(logits, 5);
    test::ForEachSimdTarget([&] {
      const KernelResult got = RunKernel(p);
      EXPECT_TRUE(std::isnan(got.loss) && std::isnan(got.logprobs[0])) << at;
      EXPECT_TRUE(std::isnan(got.dh[0])) << at;
      for (const float x : got.dw) EXPECT_TRUE(std::isnan(x)) << at;
    });
  }
}

TEST(CrossEntropy, NanStaysInItsRow) {
  HeadProblem<double> p = RandomProblem(5, 7, 19, false);
  const KernelResult clean = RunKernel(p);
  p.h[2 * 7 + 3] = std::numeric_limits<double>::quiet_NaN();
  const KernelResult got = RunKernel(p);
  EXPECT_TRUE(std::isnan(got.loss));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(std::isnan(got.logprobs[i]), i == 2);
    if (i != 2) {
      EXPECT_EQ(got.logprobs[i], clean.logprobs[i]);
    }
  }
  for (size_t i = 0; i < got.dh.size(); ++i) EXPECT_EQ(std::isnan(got.dh[i]), i / 7 == 2) << i;
}

TEST(CrossEntropy, NoRowsAndOneWordVocabulary) {
  const std::vector<float> start = test::RandomVector<float>(9 * 4, 41);
  const KernelResult none = RunKernel(RandomProblem(0, 4, 9, false), {}, start);
  EXPECT_EQ(none.loss, 0);
  EXPECT_TRUE(test::SameBits(none.dw, start));
  const KernelResult one_word = RunKernel(RandomProblem(3, 4, 1, false));
  EXPECT_EQ(one_word.loss, 0);
  EXPECT_EQ(test::MaxAbs(one_word.dh), 0);
  EXPECT_EQ(test::MaxAbs(one_word.dw), 0);
}

TEST(CrossEntropy, WeightsAndScale) {
  HeadProblem<double> p = RandomProblem(3, 6, 11, false);
  const KernelResult plain = RunKernel(p);
  p.scale = 0.25;
  const KernelResult scaled = RunKernel(p);
  EXPECT_EQ(scaled.loss, plain.loss);  // the loss itself is not scaled
  for (size_t i = 0; i < plain.dh.size(); ++i) EXPECT_EQ(scaled.dh[i], 0.25f * plain.dh[i]);  // exact: a power of two
  for (size_t i = 0; i < plain.dw.size(); ++i) EXPECT_EQ(scaled.dw[i], 0.25f * plain.dw[i]);
  p.weights = {0, 4, 1};
  const KernelResult weighted = RunKernel(p);
  EXPECT_TRUE(test::SameBits(weighted.logprobs, plain.logprobs));  // log p is not weighted
  EXPECT_NEAR(weighted.loss, -4.0 * plain.logprobs[1] - plain.logprobs[2], 1e-5);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(weighted.dh[i], 0);
    EXPECT_EQ(weighted.dh[6 + i], plain.dh[6 + i]);  // 4 * 0.25
  }
}

TEST(CrossEntropy, ARowDoesNotDependOnTheOthers) {
  const HeadProblem<double> p = RandomProblem(40, 33, 97, false);
  const KernelResult all = RunKernel(p);
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1}, {3, 17}, {39, 1}}) {
    HeadProblem<double> part = p;
    part.n = count;
    part.h.assign(p.h.begin() + begin * p.d, p.h.begin() + (begin + count) * p.d);
    part.targets.assign(p.targets.begin() + begin, p.targets.begin() + begin + count);
    const KernelResult got = RunKernel(part);
    EXPECT_TRUE(test::SameBits(got.logprobs, {all.logprobs.begin() + begin, all.logprobs.begin() + begin + count}));
    EXPECT_TRUE(test::SameBits(got.dh, {all.dh.begin() + begin * p.d, all.dh.begin() + (begin + count) * p.d}));
  }
}

TEST(CrossEntropy, WithoutGradientTheSameLoss) {
  const HeadProblem<double> p = RandomProblem(20, 33, 97, true);
  const KernelResult with = RunKernel(p), without = RunKernel(p, {}, {}, false);
  EXPECT_EQ(with.loss, without.loss);
  EXPECT_TRUE(test::SameBits(with.logprobs, without.logprobs));
}

TEST(CrossEntropy, ThreadsDoNotChangeTheBits) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const auto& [n, d, vocab] :
         {std::tuple<int64_t, int64_t, int64_t>{1, 17, 256}, {70, 65, 97}, {300, 48, 256}, {20, 64, 50288}}) {
      SCOPED_TRACE(testing::Message() << "n " << n << ", d " << d << ", vocab " << vocab << " " << NameOf(dtype));
      const HeadProblem<double> p = RandomProblem(n, d, vocab, true, dtype);
      test::ExpectSameBitsForAnyThreads([&] { return RunKernel(p, {}, {}, true, dtype).Everything(); });
    }
  }
}

TEST(CrossEntropy, GivesItsScratchBack) {
  const Tensor weight({9, 4});
  const LinearWeight head{weight.Matrix()};
  Tensor h({3, 4});
  Arena scratch;
  scratch.Floats(16);
  const float* next = nullptr;
  {
    Arena::Scope scope(scratch);
    next = scratch.Floats(16);
  }
  const std::vector<int32_t> targets = {0, 1, 2};
  HeadCrossEntropy({h.Matrix(), head, targets}, nullptr, nullptr, scratch);
  EXPECT_EQ(scratch.Floats(16), next);
}

TEST(CrossEntropy, WrongTargetsAndShapesAreBugs) {
  const Tensor weight({9, 4});
  const LinearWeight head{weight.Matrix()};
  Tensor h({1, 4});
  Arena scratch;
  const auto run = [&](std::vector<int32_t> targets, std::vector<float> weights) {
    HeadCrossEntropy({h.Matrix(), head, targets, weights}, nullptr, nullptr, scratch);
  };
  EXPECT_THROW(run({9}, {}), InternalError);
  EXPECT_THROW(run({-1}, {}), InternalError);
  EXPECT_THROW(run({1, 1}, {}), InternalError);
  EXPECT_THROW(run({1}, {1, 1}), InternalError);
}

}  // namespace
}  // namespace taipan
