#include "kernels/attention.h"

#include <gtest/gtest.h>

#include "kernels/attention_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using reference::AttentionProblem;
using test::ConvertTo;
using test::RandomVector;
using test::RelativeFrobeniusError;

// Scores are sums of dh products (rounding 2^-24 each, scores of a few units), exponentials carry the scores' absolute
// error, outputs average values: 1e-5 of the norm is several times sqrt(dh) * 2^-24 * |score|.
constexpr double kTolerance = 1e-5;

// Keys at positions 0 .. n_keys - 1; queries at every `every`-th position from `first`.
AttentionProblem<double> MakeProblem(AttentionShape shape, int64_t n_keys, int64_t first, int64_t every,
                                     uint64_t seed) {
  AttentionProblem<double> in;
  in.shape = shape;
  for (int64_t i = first; i < n_keys; i += every) in.positions.push_back(i);
  in.q = RandomVector<double>(static_cast<int64_t>(in.positions.size()) * shape.heads * shape.head_dim, seed, 1.5);
  in.k = RandomVector<double>(n_keys * shape.kv_heads * shape.head_dim, seed + 1);
  in.v = RandomVector<double>(n_keys * shape.kv_heads * shape.head_dim, seed + 2);
  return in;
}

// Keys cut into spans of the given length (the last one holds the rest) whose rows lie apart.
struct KernelProblem {
  KernelProblem(const AttentionProblem<double>& p, int64_t span_length)
      : n(static_cast<int64_t>(p.positions.size())), q(n, p.shape.heads * p.shape.head_dim, 3, 1) {
    const int64_t width = p.shape.kv_heads * p.shape.head_dim, n_keys = static_cast<int64_t>(p.k.size()) / width;
    q.Fill(ConvertTo<float>(p.q));
    for (int64_t at = 0; at < n_keys; at += span_length) {
      const int64_t count = std::min(span_length, n_keys - at);
      const auto part = [&](const std::vector<double>& all) {
        return std::vector<float>(all.begin() + at * width, all.begin() + (at + count) * width);
      };
      k.emplace_back(count, width, 2, 1).Fill(part(p.k));
      v.emplace_back(count, width, 2, 3).Fill(part(p.v));
      dk.emplace_back(count, width, 2, 1);
      dv.emplace_back(count, width, 2, 3);
    }
    for (size_t i = 0; i < k.size(); ++i) {
      spans.push_back(
          {k[i].View().F32(), v[i].View().F32(), width + 2, static_cast<int64_t>(i) * span_length, k[i].View().rows});
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
std::vector<Case> Cases() {
  return {{{1, 1, 1, 0}, 1, 0, 1, 1},         {{2, 1, 5, 0}, 9, 0, 1, 4},         {{4, 2, 16, 0}, 150, 0, 1, 150},
          {{3, 3, 17, 24}, 200, 0, 1, 70},    {{4, 4, 8, 1}, 70, 0, 1, 70},       {{8, 2, 24, 64}, 300, 100, 7, 128},
          {{2, 2, 64, 65}, 260, 200, 1, 128}, {{6, 1, 12, 500}, 130, 129, 1, 33}, {{40, 1, 4, 16}, 80, 3, 5, 80}};
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
      const auto dout = RandomVector<double>(static_cast<int64_t>(p.q.size()), 51);
      const auto expected = reference::AttentionBackward(p, dout);
      KernelProblem k(p, c.span);
      const int64_t width = c.shape.heads * c.shape.head_dim;
      test::PaddedMatrix out(k.n, width, 1, 1), dq(k.n, width, 5, 0), dout_view(k.n, width, 0, 2);
      dout_view.Fill(ConvertTo<float>(dout));
      std::vector<float> lse(static_cast<size_t>(k.n * c.shape.heads));
      const AttentionSegment seg = k.Segment(0, k.n);
      Arena scratch;
      AttentionForward(c.shape, k.q.View(), p.positions.data(), {&seg, 1}, out.View(), lse.data(), scratch);
      AttentionBackward(c.shape, k.q.View(), p.positions.data(), {&seg, 1}, out.View(), lse.data(), dout_view.View(),
                        dq.View(), scratch);
      const std::string name =
          ::testing::PrintToString(c.n_keys) + " keys, window " + ::testing::PrintToString(c.shape.window);
      ASSERT_LE(RelativeFrobeniusError(out.Dense(), reference::Attention(p)), kTolerance) << name;
      if (c.n_keys > 1 && c.shape.window != 1) {  // one key: the gradient of the scores is exactly zero
        ASSERT_LE(RelativeFrobeniusError(dq.Dense(), expected.q), 4 * kTolerance) << name;
        ASSERT_LE(RelativeFrobeniusError(KernelProblem::Join(k.dk), expected.k), 4 * kTolerance) << name;
      }
      ASSERT_LE(RelativeFrobeniusError(KernelProblem::Join(k.dv), expected.v), kTolerance) << name;
      ASSERT_TRUE(out.GuardsIntact() && dq.GuardsIntact());
      for (size_t i = 0; i < k.dk.size(); ++i) ASSERT_TRUE(k.dk[i].GuardsIntact() && k.dv[i].GuardsIntact());
    }
  });
}

// Rows of the result for queries [begin, end) computed in pieces, keys in spans.
std::vector<float> RunPieces(const AttentionProblem<double>& p, int64_t span, const std::vector<int64_t>& pieces) {
  KernelProblem k(p, span);
  test::PaddedMatrix out(k.n, p.shape.heads * p.shape.head_dim);
  Arena scratch;
  int64_t at = 0;
  for (const int64_t piece : pieces) {
    const AttentionSegment seg = k.Segment(at, piece);
    AttentionForward(p.shape, k.q.View(), p.positions.data(), {&seg, 1}, out.View(), nullptr, scratch);
    at += piece;
  }
  return out.Dense();
}

TEST(Attention, AQueryGivesTheSameBitsInAnyPieceAndAnyPages) {
  for (const int64_t window : {0, 37, 64}) {
    const AttentionProblem<double> p = MakeProblem({4, 2, 20, window}, 210, 5, 1, 60);
    const std::vector<float> whole = RunPieces(p, 210, {205});
    EXPECT_TRUE(test::SameBits(whole, RunPieces(p, 128, {205}))) << window;
    EXPECT_TRUE(test::SameBits(whole, RunPieces(p, 50, {1, 17, 100, 87}))) << window;
    EXPECT_TRUE(test::SameBits(whole, RunPieces(p, 210, std::vector<int64_t>(205, 1)))) << window;
  }
}

TEST(Attention, ThreadsAndOtherSegmentsDoNotMatter) {
  const AttentionProblem<double> p = MakeProblem({4, 2, 20, 30}, 120, 0, 1, 70);
  KernelProblem k(p, 120);
  const std::vector<AttentionSegment> segments = {k.Segment(0, 50), k.Segment(50, 0), k.Segment(50, 70)};
  test::ExpectSameBitsForAnyThreads([&] {
    test::PaddedMatrix out(k.n, 80), dq(k.n, 80), dout(k.n, 80);
    dout.FillRandom(3);
    std::vector<float> lse(static_cast<size_t>(k.n * 4));
    for (auto& m : k.dk) m.View().Zero();
    for (auto& m : k.dv) m.View().Zero();
    Arena scratch;
    AttentionForward(p.shape, k.q.View(), p.positions.data(), segments, out.View(), lse.data(), scratch);
    // One segment at a time: both of them add to the same keys' gradients here.
    for (const AttentionSegment& s : segments) {
      AttentionBackward(p.shape, k.q.View(), p.positions.data(), {&s, 1}, out.View(), lse.data(), dout.View(),
                        dq.View(), scratch);
    }
    std::vector<float> all = out.Dense();
    for (const auto& part : {dq.Dense(), KernelProblem::Join(k.dk), KernelProblem::Join(k.dv)})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  });
}

TEST(Attention, LargeScoresDoNotOverflow) {
  AttentionProblem<double> p = MakeProblem({1, 1, 4, 0}, 70, 69, 1, 80);
  for (double& v : p.q) v = 1000;
  for (double& v : p.k) v = static_cast<float>(v * 100);
  const std::vector<float> out = RunPieces(p, 70, {1});
  EXPECT_LE(RelativeFrobeniusError(out, reference::Attention(p)), 1e-3);  // scores of 1e5 carry 1e-2 in f32
}

}  // namespace
}  // namespace taipan
