#include "kernels/attention/attention.h"

#include <gtest/gtest.h>

#include "kernels/attention/attention_reference.h"
#include "kernels/int8_rows.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using reference::AttentionProblem;
using test::ConvertTo;
using test::RandomVector;
using test::RelativeFrobeniusError;

// f32: scores are sums of dh products (rounding 2^-24 each, scores of a few units), exponentials carry the scores'
// absolute error, outputs average values: 1e-5 of the norm is several times sqrt(dh) * 2^-24 * |score|.
constexpr double kTolerance = 1e-5;
constexpr double kRoundoff = 0x1p-8;  // of bf16: largest relative error of rounding to nearest

// Numbers that bf16 holds, so that the reference computes with the same ones.
std::vector<double> RandomBF16(int64_t n, uint64_t seed, double scale = 1.0) {
  std::vector<double> out = RandomVector<double>(n, seed, scale);
  for (double& x : out) x = ToFloat(ToBF16(static_cast<float>(x)));
  return out;
}

// Keys at positions 0 .. n_keys - 1; queries at every `every`-th position from `first`.
AttentionProblem<double> MakeProblem(AttentionShape shape, int64_t n_keys, int64_t first, int64_t every,
                                     uint64_t seed) {
  AttentionProblem<double> in;
  in.shape = shape;
  for (int64_t i = first; i < n_keys; i += every) in.positions.push_back(i);
  in.q = RandomBF16(static_cast<int64_t>(in.positions.size()) * shape.heads * shape.head_dim, seed, 1.5);
  in.k = RandomBF16(n_keys * shape.kv_heads * shape.head_dim, seed + 1);
  in.v = RandomBF16(n_keys * shape.kv_heads * shape.head_dim, seed + 2);
  return in;
}

// Keys cut into spans of the given length (the last one holds the rest) whose rows lie apart. `mixed`: every second
// span has the other type.
struct KernelProblem {
  KernelProblem(const AttentionProblem<double>& p, int64_t span_length, DType type = DType::kF32, bool mixed = false)
      : dtype(type), n(static_cast<int64_t>(p.positions.size())), q(n, p.shape.heads * p.shape.head_dim, 3, 1, type) {
    const int64_t width = p.shape.kv_heads * p.shape.head_dim, n_keys = static_cast<int64_t>(p.k.size()) / width;
    q.Fill(ConvertTo<float>(p.q));
    for (int64_t at = 0; at < n_keys; at += span_length) {
      const int64_t count = std::min(span_length, n_keys - at);
      const auto part = [&](const std::vector<double>& all) {
        return std::vector<float>(all.begin() + at * width, all.begin() + (at + count) * width);
      };
      const DType other = type == DType::kF32 ? DType::kBF16 : DType::kF32;
      const DType of_span = mixed && k.size() % 2 == 1 ? other : type;
      k.emplace_back(count, width, 2, 1, of_span).Fill(part(p.k));
      v.emplace_back(count, width, 2, 3, of_span).Fill(part(p.v));
      dk.emplace_back(count, width, 2, 1);
      dv.emplace_back(count, width, 2, 3);
    }
    for (size_t i = 0; i < k.size(); ++i) {
      const ConstMatrixView kv = k[i].View(), vv = v[i].View();
      spans.push_back({kv.data, vv.data, kv.dtype, width + 2, static_cast<int64_t>(i) * span_length, kv.rows});
      gradients.push_back({dk[i].View().F32(), dv[i].View().F32()});
    }
  }
  AttentionSegment Segment(int64_t begin, int64_t count) const { return {begin, count, spans, gradients}; }
  static std::vector<float> Join(const std::vector<test::PaddedMatrix>& parts) {
    std::vector<float> all;
    for (const auto& part : parts) {
      const auto dense = part.Dense();
      all.insert(all.end(), dense.begin(), dense.end());
    }
    return all;
  }
  DType dtype;
  int64_t n;
  test::PaddedMatrix q;
  std::vector<test::PaddedMatrix> k, v, dk, dv;
  std::vector<KeySpan> spans;
  std::vector<KeyGradientSpan> gradients;
};

struct Case {
  AttentionShape shape;
  int64_t n_keys, first, every, span;
};
std::string NameOf(const Case& c) {
  return ::testing::PrintToString(c.n_keys) + " keys, head_dim " + ::testing::PrintToString(c.shape.head_dim) +
         ", window " + ::testing::PrintToString(c.shape.window);
}
// The last ones have several chunks and ranges of queries in the backward, with few and with many heads a key head.
std::vector<Case> Cases() {
  return {
      {{1, 1, 1, 0}, 1, 0, 1, 1},         {{2, 1, 5, 0}, 9, 0, 1, 4},         {{4, 2, 16, 0}, 150, 0, 1, 150},
      {{3, 3, 17, 24}, 200, 0, 1, 70},    {{4, 4, 8, 1}, 70, 0, 1, 70},       {{8, 2, 24, 64}, 300, 100, 7, 128},
      {{2, 2, 64, 65}, 260, 200, 1, 128}, {{6, 1, 12, 500}, 130, 129, 1, 33}, {{40, 1, 4, 16}, 80, 3, 5, 80},
      {{1, 1, 6, 300}, 1300, 0, 1, 1300}, {{16, 1, 3, 0}, 150, 0, 1, 64},     {{4, 2, 16, 40, 0.11f}, 150, 0, 1, 64}};
}

// What AttentionForward and AttentionBackward give for a whole problem.
struct Results {
  std::vector<float> out, dq, dk, dv, lse;
};
Results RunBoth(const AttentionProblem<double>& p, KernelProblem& k, const std::vector<double>& dout) {
  const int64_t width = p.shape.heads * p.shape.head_dim;
  test::PaddedMatrix out(k.n, width, 1, 1, k.dtype), dq(k.n, width, 5, 0, k.dtype),
      dout_view(k.n, width, 0, 2, k.dtype);
  dout_view.Fill(ConvertTo<float>(dout));
  Results r;
  r.lse.resize(static_cast<size_t>(k.n * p.shape.heads));
  const AttentionSegment seg = k.Segment(0, k.n);
  Arena scratch;
  const AttentionInputs in = {k.q.View(), p.positions.data(), {&seg, 1}};
  AttentionForward(p.shape, in, out.View(), r.lse.data(), scratch);
  AttentionBackward(p.shape, in, out.View(), r.lse.data(), {.dout = dout_view.View(), .dq = dq.View()}, scratch);
  EXPECT_TRUE(out.GuardsIntact() && dq.GuardsIntact());
  for (size_t i = 0; i < k.dk.size(); ++i) EXPECT_TRUE(k.dk[i].GuardsIntact() && k.dv[i].GuardsIntact());
  r.out = out.Dense();
  r.dq = dq.Dense();
  r.dk = KernelProblem::Join(k.dk);
  r.dv = KernelProblem::Join(k.dv);
  return r;
}

TEST(AttentionReference, GradientsAgreeWithCentralDifferences) {
  const AttentionProblem<double> base = MakeProblem({4, 2, 3, 5}, 9, 1, 2, 7);
  const auto dout = RandomVector<double>(static_cast<int64_t>(base.q.size()), 8);
  const auto g = reference::AttentionBackward(base, dout);
  const auto check = [&](std::vector<double> AttentionProblem<double>::*member, const std::vector<double>& analytic,
                         const char* name) {
    test::CheckGradient(
        [&](const std::vector<double>& x) {
          AttentionProblem<double> p = base;
          p.*member = x;
          return test::DotProduct(reference::Attention(p), dout);
        },
        base.*member, analytic, name);
  };
  check(&AttentionProblem<double>::q, g.q, "q");
  check(&AttentionProblem<double>::k, g.k, "k");
  check(&AttentionProblem<double>::v, g.v, "v");
}

TEST(Attention, ForwardAndBackwardAgreeWithTheReference) {
  test::ForEachSimdTarget([] {
    for (const Case& c : Cases()) {
      const AttentionProblem<double> p = MakeProblem(c.shape, c.n_keys, c.first, c.every, 50);
      const auto dout = RandomBF16(static_cast<int64_t>(p.q.size()), 51);
      const auto expected = reference::AttentionBackward(p, dout);
      KernelProblem k(p, c.span);
      const Results r = RunBoth(p, k, dout);
      ASSERT_LE(RelativeFrobeniusError(r.out, reference::Attention(p)), kTolerance) << NameOf(c);
      if (c.n_keys > 1 && c.shape.window != 1) {  // one key: the gradient of the scores is exactly zero
        ASSERT_LE(RelativeFrobeniusError(r.dq, expected.q), 4 * kTolerance) << NameOf(c);
        ASSERT_LE(RelativeFrobeniusError(r.dk, expected.k), 4 * kTolerance) << NameOf(c);
      }
      ASSERT_LE(RelativeFrobeniusError(r.dv, expected.v), kTolerance) << NameOf(c);
    }
  });
}

// How far bf16 may be off, element by element, with inputs that bf16 holds. Rounded are probabilities p (where they are
// multiplied), out, score gradients ds and dq; products are exact and sums f32. With u the roundoff:
//   out: u sum_j p_j |v_j| + u |out|                       dv: u sum_i p_i |dout_i|
//   ds: u |ds| + p * error(delta), delta = <dout, out> of the stored out
//   dq: sum_j error(ds_j) |k_j| + u |dq|                   dk: sum_i error(ds_i) |q_i|
struct Bounds {
  std::vector<double> out, dq, dk, dv;
};
Bounds BF16Bounds(const AttentionProblem<double>& p, const std::vector<double>& out, const std::vector<double>& dout,
                  const reference::AttentionGradient<double>& g) {
  const int64_t dh = p.shape.head_dim, heads = p.shape.heads, kvh = p.shape.kv_heads;
  const double scale = p.Scale();
  Bounds b{out, g.q, std::vector<double>(p.k.size()), std::vector<double>(p.v.size())};
  for (double& x : b.out) x = kRoundoff * std::abs(x);
  for (double& x : b.dq) x = kRoundoff * std::abs(x);
  for (int64_t i = 0; i < static_cast<int64_t>(p.positions.size()); ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      const std::vector<double> prob = reference::Probabilities(p, i, h);
      const auto qi = static_cast<size_t>((i * heads + h) * dh);
      const auto key = [&](size_t j) {
        return (j * static_cast<size_t>(kvh) + static_cast<size_t>(h / (heads / kvh))) * static_cast<size_t>(dh);
      };
      double delta = 0, delta_error = 0;
      for (size_t j = 0; j < prob.size(); ++j) {
        for (size_t c = 0; c < static_cast<size_t>(dh); ++c)
          b.out[qi + c] += kRoundoff * prob[j] * std::abs(p.v[key(j) + c]);
      }
      for (size_t c = 0; c < static_cast<size_t>(dh); ++c) {
        delta += dout[qi + c] * out[qi + c];
        delta_error += std::abs(dout[qi + c]) * b.out[qi + c];
      }
      for (size_t j = 0; j < prob.size(); ++j) {
        double dp = 0;
        for (size_t c = 0; c < static_cast<size_t>(dh); ++c) dp += dout[qi + c] * p.v[key(j) + c];
        const double ds_error = scale * prob[j] * (kRoundoff * std::abs(dp - delta) + delta_error);
        for (size_t c = 0; c < static_cast<size_t>(dh); ++c) {
          b.dq[qi + c] += ds_error * std::abs(p.k[key(j) + c]);
          b.dk[key(j) + c] += ds_error * std::abs(p.q[qi + c]);
          b.dv[key(j) + c] += kRoundoff * prob[j] * std::abs(dout[qi + c]);
        }
      }
    }
  }
  return b;
}

// f32's own errors are a thousandth of bf16's; second order terms less than a hundredth.
void ExpectWithin(const std::vector<float>& actual, const std::vector<double>& expected,
                  const std::vector<double>& bound, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected[i]), 1.01 * bound[i] + 1e-6) << what << " " << i;
  }
}

TEST(Attention, InBF16EveryElementIsWithinItsBound) {
  test::ForEachSimdTarget([] {
    for (const Case& c : Cases()) {
      const AttentionProblem<double> p = MakeProblem(c.shape, c.n_keys, c.first, c.every, 50);
      const auto dout = RandomBF16(static_cast<int64_t>(p.q.size()), 51);
      const auto out = reference::Attention(p);
      const auto expected = reference::AttentionBackward(p, dout);
      const Bounds bounds = BF16Bounds(p, out, dout, expected);
      KernelProblem k(p, c.span, DType::kBF16);
      const Results r = RunBoth(p, k, dout);
      ExpectWithin(r.out, out, bounds.out, NameOf(c) + ", out");
      ExpectWithin(r.dq, expected.q, bounds.dq, NameOf(c) + ", dq");
      ExpectWithin(r.dk, expected.k, bounds.dk, NameOf(c) + ", dk");
      ExpectWithin(r.dv, expected.v, bounds.dv, NameOf(c) + ", dv");
      if (::testing::Test::HasFatalFailure()) return;
    }
  });
}

// A cache that was filled in another type than the queries' (and holds numbers that both types have).
TEST(Attention, KeysMayHaveEitherType) {
  const AttentionProblem<double> p = MakeProblem({4, 2, 7, 90}, 300, 20, 3, 55);
  const auto dout = RandomBF16(static_cast<int64_t>(p.q.size()), 56);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    KernelProblem same(p, 70, dtype), mixed(p, 70, dtype, true);
    const Results a = RunBoth(p, same, dout), b = RunBoth(p, mixed, dout);
    EXPECT_TRUE(test::SameBits(a.out, b.out) && test::SameBits(a.lse, b.lse)) << NameOf(dtype);
    EXPECT_TRUE(test::SameBits(a.dq, b.dq) && test::SameBits(a.dk, b.dk) && test::SameBits(a.dv, b.dv))
        << NameOf(dtype);
  }
}

// Keys and values as integers with a scale for each token and head: attention over the numbers that they stand for, in
// double precision. Every second span has floats.
TEST(Attention, IntegersAreTheNumbersThatTheyStandFor) {
  test::ForEachSimdTarget([] {
    for (const Case& c : Cases()) {
      AttentionProblem<double> p = MakeProblem(c.shape, c.n_keys, c.first, c.every, 57);
      const int64_t heads = c.shape.kv_heads, dh = c.shape.head_dim, width = heads * dh;
      std::vector<int8_t> integers[2];
      std::vector<float> scales[2];
      KernelProblem k(p, c.span);
      for (const int values : {0, 1}) {
        std::vector<double>& x = values ? p.v : p.k;
        integers[values].resize(x.size());
        scales[values].resize(static_cast<size_t>(c.n_keys * heads));
        const std::vector<float> floats = ConvertTo<float>(x);
        QuantizeHeads({floats.data(), c.n_keys, width}, heads, integers[values].data(), scales[values].data());
        for (size_t s = 0; s < k.spans.size(); s += 2) {
          const KeySpan& span = k.spans[s];
          for (int64_t i = span.position * width; i < (span.position + span.count) * width; ++i) {
            const auto at = static_cast<size_t>(i);
            x[at] = double{scales[values][at / static_cast<size_t>(dh)]} * integers[values][at];
          }
        }
      }
      for (size_t s = 0; s < k.spans.size(); s += 2) {
        KeySpan& span = k.spans[s];
        const int64_t row = span.position;
        span = {integers[0].data() + row * width, integers[1].data() + row * width, DType::kI8, width, row, span.count};
        span.k_scales = scales[0].data() + row * heads;
        span.v_scales = scales[1].data() + row * heads;
      }
      const AttentionSegment seg{0, k.n, k.spans, {}};
      test::PaddedMatrix out(k.n, c.shape.heads * dh, 1, 1);
      Arena scratch;
      AttentionForward(c.shape, {k.q.View(), p.positions.data(), {&seg, 1}}, out.View(), nullptr, scratch);
      const std::vector<double> expected = reference::Attention(p);
      ASSERT_LE(RelativeFrobeniusError(out.Dense(), expected), kTolerance) << NameOf(c);
      // Each query by itself, in bf16, reads them where they lie.
      const KernelProblem half(p, c.span, DType::kBF16);
      test::PaddedMatrix rounded(k.n, c.shape.heads * dh, 1, 1, DType::kBF16);
      std::vector<AttentionSegment> each;
      for (int64_t i = 0; i < k.n; ++i) each.push_back({i, 1, k.spans, {}});
      AttentionForward(c.shape, {half.q.View(), p.positions.data(), each}, rounded.View(), nullptr, scratch);
      ASSERT_LE(RelativeFrobeniusError(rounded.Dense(), expected), 1.0 / 512 + kTolerance) << NameOf(c);
    }
  });
}

// Rows of the result for queries computed in pieces, keys in spans.
std::vector<float> RunPieces(const AttentionProblem<double>& p, DType dtype, int64_t span,
                             const std::vector<int64_t>& pieces) {
  KernelProblem k(p, span, dtype);
  test::PaddedMatrix out(k.n, p.shape.heads * p.shape.head_dim, 0, 0, dtype);
  Arena scratch;
  int64_t at = 0;
  for (const int64_t piece : pieces) {
    const AttentionSegment seg = k.Segment(at, piece);
    AttentionForward(p.shape, {k.q.View(), p.positions.data(), {&seg, 1}}, out.View(), nullptr, scratch);
    at += piece;
  }
  return out.Dense();
}

TEST(Attention, AQueryGivesTheSameBitsInAnyPieceAndAnyPages) {
  test::ForEachSimdTarget([] {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t window : {0, 37, 64}) {
        const AttentionProblem<double> p = MakeProblem({4, 2, 20, window}, 210, 5, 1, 60);
        const std::vector<float> whole = RunPieces(p, dtype, 210, {205});
        EXPECT_TRUE(test::SameBits(whole, RunPieces(p, dtype, 128, {205}))) << window;
        EXPECT_TRUE(test::SameBits(whole, RunPieces(p, dtype, 50, {9, 17, 100, 79}))) << window;
        if (dtype == DType::kBF16) continue;  // eight queries or fewer: below
        EXPECT_TRUE(test::SameBits(whole, RunPieces(p, dtype, 210, std::vector<int64_t>(205, 1)))) << window;
      }
    }
  });
}

// In bf16 up to eight queries of a segment read keys and values where they lie: their bits depend neither on each other
// nor on pages. Nothing is rounded but the result: by half of 2^-8 of it.
TEST(Attention, FewQueriesInBF16RoundTheResultAlone) {
  test::ForEachSimdTarget([] {
    for (const int64_t window : {0, 37, 64}) {
      for (const int64_t head_dim : {20, 64}) {
        const AttentionProblem<double> p = MakeProblem({4, 2, head_dim, window}, 210, 5, 1, 60);
        const std::vector<float> one = RunPieces(p, DType::kBF16, 210, std::vector<int64_t>(205, 1));
        std::vector<int64_t> pieces(25, 8);
        pieces.push_back(5);
        EXPECT_TRUE(test::SameBits(one, RunPieces(p, DType::kBF16, 50, pieces))) << window;
        EXPECT_TRUE(test::SameBits(one, RunPieces(p, DType::kBF16, 128, pieces))) << window;
        EXPECT_LE(RelativeFrobeniusError(one, reference::Attention(p)), 1.0 / 512 + kTolerance) << window;
      }
    }
  });
}

// Keys of several parts (128 positions each), in place and gathered, beside a segment of many queries.
TEST(Attention, PartsOfFewQueriesAddUp) {
  test::ForEachSimdTarget([] {
    for (const int64_t window : {0, 300}) {
      for (const int64_t head_dim : {20, 64, 128}) {
        const AttentionProblem<double> p = MakeProblem({3, 1, head_dim, window}, 700, 680, 1, 61);
        const std::vector<double> expected = reference::Attention(p);
        for (const bool mixed : {false, true}) {
          KernelProblem k(p, 90, DType::kBF16, mixed);
          test::PaddedMatrix out(k.n, 3 * head_dim, 0, 0, DType::kBF16);
          const std::vector<AttentionSegment> segments = {k.Segment(0, 1), k.Segment(1, 8), k.Segment(9, 11)};
          Arena scratch;
          AttentionForward(p.shape, {k.q.View(), p.positions.data(), segments}, out.View(), nullptr, scratch);
          const std::vector<float> few = out.Dense();
          const auto end = static_cast<size_t>(9 * 3 * head_dim);
          EXPECT_LE(RelativeFrobeniusError(std::vector<float>(few.begin(), few.begin() + end),
                                           std::vector<double>(expected.begin(), expected.begin() + end)),
                    1.0 / 512 + kTolerance)
              << head_dim;
          EXPECT_LE(RelativeFrobeniusError(few, expected), 2 * kRoundoff) << head_dim;
          const std::vector<float> one = RunPieces(p, DType::kBF16, 700, std::vector<int64_t>(20, 1));
          EXPECT_TRUE(std::equal(one.begin(), one.begin() + end, few.begin())) << head_dim;
        }
      }
    }
  });
}

// Two sequences of several blocks, chunks and ranges, and one without queries.
TEST(Attention, ThreadsDoNotMatter) {
  const AttentionProblem<double> p = MakeProblem({4, 2, 6, 200}, 800, 0, 1, 70);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    KernelProblem k(p, 800, dtype);
    KernelProblem other(p, 800, dtype);
    AttentionSegment second = other.Segment(700, 100);
    const std::vector<AttentionSegment> segments = {k.Segment(0, 696), k.Segment(696, 4), k.Segment(700, 0), second};
    test::ExpectSameBitsForAnyThreads([&] {
      test::PaddedMatrix out(k.n, 24, 0, 0, dtype), dq(k.n, 24, 0, 0, dtype), dout(k.n, 24, 0, 0, dtype);
      dout.FillRandom(3);
      std::vector<float> all(static_cast<size_t>(k.n * 4));
      for (KernelProblem* problem : {&k, &other}) {
        for (auto& m : problem->dk) m.View().Zero();
        for (auto& m : problem->dv) m.View().Zero();
      }
      Arena scratch;
      const AttentionInputs in = {k.q.View(), p.positions.data(), segments};
      AttentionForward(p.shape, in, out.View(), all.data(), scratch);
      AttentionBackward(p.shape, in, out.View(), all.data(), {.dout = dout.View(), .dq = dq.View()}, scratch);
      const std::vector<float> trained = out.Dense();
      AttentionForward(p.shape, in, out.View(), nullptr, scratch);  // of few queries in parts
      for (const auto& part : {trained, out.Dense(), dq.Dense(), KernelProblem::Join(k.dk), KernelProblem::Join(k.dv),
                               KernelProblem::Join(other.dk), KernelProblem::Join(other.dv)}) {
        all.insert(all.end(), part.begin(), part.end());
      }
      return all;
    });
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  AttentionProblem<double> p = MakeProblem({1, 1, 4, 0}, 70, 69, 1, 80);
  for (double& v : p.q) v = 1000;
  for (double& v : p.k) v = static_cast<float>(v * 100);
  const std::vector<float> out = RunPieces(p, DType::kF32, 70, {1});
  EXPECT_LE(RelativeFrobeniusError(out, reference::Attention(p)), 1e-3);  // scores of 1e5 carry 1e-2 in f32
}

// Scores that grow along the keys, so that the reference of the exponents rises again and again.
TEST(Attention, RisingScoresRescaleWhatWasSummed) {
  AttentionProblem<double> p = MakeProblem({1, 1, 4, 0}, 640, 639, 1, 81);
  for (double& v : p.q) v = 1;
  for (size_t i = 0; i < p.k.size(); ++i) p.k[i] = static_cast<double>(i / 4) / 128 * (i % 4 == 0 ? 2 : 1);
  const std::vector<float> out = RunPieces(p, DType::kF32, 640, {1});
  EXPECT_LE(RelativeFrobeniusError(out, reference::Attention(p)), kTolerance);
}

}  // namespace
}  // namespace taipan
