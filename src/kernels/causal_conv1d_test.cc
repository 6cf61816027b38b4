#include "kernels/causal_conv1d.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/causal_conv1d_reference.h"
#include "kernels/convert.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using test::PaddedMatrix;
using Floats = std::vector<float>;

// One run of tokens with everything that goes in.
struct TokenRun {
  int64_t length, channels, width;
  DType dtype;
  Floats x, dy, state_in, dstate_out, weight, bias;

  TokenRun(int64_t l, int64_t c, int64_t w, uint64_t seed, DType type = DType::kF32)
      : length(l),
        channels(c),
        width(w),
        dtype(type),
        x(test::Stored(test::RandomVector<float>(l * c, seed), type)),
        dy(test::Stored(test::RandomVector<float>(l * c, seed + 1), type)),
        state_in(test::RandomVector<float>((w - 1) * c, seed + 2)),
        dstate_out(test::RandomVector<float>((w - 1) * c, seed + 3)),
        weight(test::RandomVector<float>(w * c, 100)),
        bias(test::RandomVector<float>(c, 101)) {}

  template <class T>
  reference::ConvInputs<T> Inputs() const {
    return {test::ConvertTo<T>(x), test::ConvertTo<T>(state_in), test::ConvertTo<T>(weight), test::ConvertTo<T>(bias),
            width};
  }
  ConvInputs Call(ConstMatrixView rows, std::span<const ConvSegment> segments) const {
    return {rows, weight.data(), bias.data(), width, segments};
  }
};

struct Result {
  Floats y, state_out, dx, dstate_in, dweight, dbias;

  Floats All() const {
    Floats all;
    for (const Floats* part : {&y, &state_out, &dx, &dstate_in, &dweight, &dbias}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }
};

// The run cut into pieces of the given lengths, a kernel call each: states go forward, their gradients back.
Result RunInPieces(const TokenRun& run, const std::vector<int64_t>& lengths, int64_t gap = 0, int64_t offset = 0) {
  PaddedMatrix x(run.length, run.channels, gap, offset, run.dtype),
      y(run.length, run.channels, gap, offset + 1, run.dtype), dy(run.length, run.channels, gap, 0, run.dtype),
      dx(run.length, run.channels, gap + 1, offset, run.dtype);
  x.Fill(run.x), dy.Fill(run.dy);
  std::vector<Floats> states = {run.state_in};
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    states.push_back(states.back());
    const ConvSegment segment = {0, length, states.back().data(), states.back().data()};  // in place
    CausalConv1dSilu(run.Call(x.View().Rows(begin, length), {&segment, 1}), y.View().Rows(begin, length));
    begin += length;
  }
  CHECK_EQ(begin, run.length);
  Result out = {y.Dense(), states.back(), {}, {}, Floats(run.weight.size(), 1.0f), Floats(run.bias.size(), 2.0f)};
  Floats dstate = run.dstate_out;
  for (size_t i = lengths.size(); i-- > 0;) {
    begin -= lengths[i];
    Floats dstate_in(dstate.size(), -1.0f);
    const ConvSegment segment = {0, lengths[i], states[i].data(), nullptr, dstate.data(), dstate_in.data()};
    CausalConv1dSiluBackward(run.Call(x.View().Rows(begin, lengths[i]), {&segment, 1}),
                             {.dy = dy.View().Rows(begin, lengths[i]),
                              .dx = dx.View().Rows(begin, lengths[i]),
                              .dweight = out.dweight.data(),
                              .dbias = out.dbias.data()});
    dstate = dstate_in;
  }
  out.dx = dx.Dense();
  out.dstate_in = dstate;
  EXPECT_TRUE(y.GuardsIntact() && dx.GuardsIntact());
  return out;
}

Result Whole(const TokenRun& run, int64_t gap = 0, int64_t offset = 0) {
  return RunInPieces(run, {run.length}, gap, offset);
}

// Every value is a sum of at most `terms` products with factors of a few units, each rounded to u = eps / 2, and silu's
// handful of roundings; values of the size of `scale` come out within this.
double Tolerance(size_t terms, double scale) {
  return (static_cast<double>(terms) + 10) * test::kFloatEps * (1 + scale);
}

void ExpectAgreesWithReference(const TokenRun& run, const Result& result) {
  const auto in = run.Inputs<double>();
  const auto forward = reference::CausalConv1dSilu(in);
  auto gradients =
      reference::CausalConv1dSiluBackward(in, test::ConvertTo<double>(run.dy), test::ConvertTo<double>(run.dstate_out));
  for (double& g : gradients.dweight) g += 1.0;  // added to what was there
  for (double& g : gradients.dbias) g += 2.0;
  const size_t width = static_cast<size_t>(run.width), sums = width + static_cast<size_t>(run.length);
  const double stored = test::StorageRoundoff(run.dtype);
  // Pre-activations reach this size, their error passes on to all gradients.
  const double p = (test::MaxAbs(run.x) + test::MaxAbs(run.state_in)) * test::MaxAbs(run.weight) * 2;
  ASSERT_LE(test::MaxAbsError(result.y, forward.y), Tolerance(width, p) + stored * test::MaxAbs(forward.y));
  ASSERT_EQ(test::MaxAbsError(result.state_out, forward.state_out), 0);
  const double d = p * test::MaxAbs(run.weight) * (1 + test::MaxAbs(run.dy));
  ASSERT_LE(test::MaxAbsError(result.dx, gradients.dx), Tolerance(2 * width, d) + stored * test::MaxAbs(gradients.dx));
  ASSERT_LE(test::MaxAbsError(result.dstate_in, gradients.dstate_in), Tolerance(2 * width, d));
  ASSERT_LE(test::RelativeFrobeniusError(result.dweight, gradients.dweight), Tolerance(sums, 0));
  ASSERT_LE(test::RelativeFrobeniusError(result.dbias, gradients.dbias), Tolerance(sums, 0));
}

TEST(CausalConv1dReference, BackwardAgreesWithCentralDifferences) {
  using In = reference::ConvInputs<double>;
  for (const int64_t length : {0, 1, 2, 7}) {
    for (const int64_t width : {2, 4}) {
      const TokenRun run(length, 3, width, 1);
      const In in = run.Inputs<double>();
      const auto dy = test::ConvertTo<double>(run.dy), dstate = test::ConvertTo<double>(run.dstate_out);
      const auto gradients = reference::CausalConv1dSiluBackward(in, dy, dstate);
      const auto loss = [&](std::vector<double> In::*member) {
        return [&, member](const std::vector<double>& value) {
          In changed = in;
          changed.*member = value;
          const auto out = reference::CausalConv1dSilu(changed);
          return test::DotProduct(out.y, dy) + test::DotProduct(out.state_out, dstate);
        };
      };
      test::CheckGradient(loss(&In::x), in.x, gradients.dx, "x");
      test::CheckGradient(loss(&In::state_in), in.state_in, gradients.dstate_in, "state_in");
      test::CheckGradient(loss(&In::weight), in.weight, gradients.dweight, "weight");
      test::CheckGradient(loss(&In::bias), in.bias, gradients.dbias, "bias");
    }
  }
}

TEST(CausalConv1d, AgreesWithReferenceOnEveryTarget) {
  for (const auto [rows, cols] : test::KernelShapes()) {
    for (const int64_t width : {2, 3, 4, 8}) {
      if (width != 4 && rows * cols > 2000) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const TokenRun run(rows, cols, width, 1, dtype);
        test::ForEachSimdTarget([&, rows = rows, cols = cols] {
          SCOPED_TRACE(testing::Message() << rows << " x " << cols << ", width " << width << " " << NameOf(dtype));
          ExpectAgreesWithReference(run, Whole(run, 3, cols % 5));
        });
      }
    }
  }
}

void ExpectPiecesGiveTheBitsOfTheWhole(DType dtype) {
  for (const int64_t width : {2, 3, 4, 8}) {
    const TokenRun run(140, 21, width, 1, dtype);
    test::ForEachSimdTarget([&] {
      const Result whole = Whole(run);
      const std::vector<std::vector<int64_t>> cuts = {
          {1, 139}, {139, 1}, {64, 76}, {63, 77}, {0, 140, 0}, {2, 1, 0, 1, 3, 5, 128}, std::vector<int64_t>(140, 1)};
      for (const auto& cut : cuts) {
        const Result pieces = RunInPieces(run, cut);
        SCOPED_TRACE(testing::Message() << "width " << width << ", first pieces " << cut[0] << " " << cut[1]);
        EXPECT_TRUE(test::SameBits(whole.y, pieces.y));
        EXPECT_TRUE(test::SameBits(whole.state_out, pieces.state_out));
        EXPECT_TRUE(test::SameBits(whole.dx, pieces.dx));
        EXPECT_TRUE(test::SameBits(whole.dstate_in, pieces.dstate_in));
        // Sums over rows fall into other tiles: 140 terms, u each, both ways.
        EXPECT_LE(test::RelativeFrobeniusError(pieces.dweight, whole.dweight), 140 * test::kFloatEps);
        EXPECT_LE(test::RelativeFrobeniusError(pieces.dbias, whole.dbias), 140 * test::kFloatEps);
      }
    });
  }
}

TEST(CausalConv1d, PiecesGiveTheBitsOfTheWhole) {
  ExpectPiecesGiveTheBitsOfTheWhole(DType::kF32);
  ExpectPiecesGiveTheBitsOfTheWhole(DType::kBF16);
}

// Several runs in one matrix, in no order: some adjacent, some with a row between them that belongs to none and must
// not be read.
struct Packed {
  static constexpr int64_t kChannels = 37;
  std::vector<TokenRun> runs;
  std::vector<int64_t> begins;
  int64_t rows = 0;
  PaddedMatrix x, dy;

  static Packed Make(int64_t width, DType dtype = DType::kF32) {
    Packed packed;
    uint64_t seed = 1;
    for (const int64_t length : {70, 1, 0, 2, 130, 5, 1}) {
      packed.runs.emplace_back(length, kChannels, width, seed += 10, dtype);
      const int64_t skipped = static_cast<int64_t>(packed.runs.size()) % 2;
      packed.begins.push_back(packed.rows + skipped);
      packed.rows += length + skipped;
    }
    packed.x = PaddedMatrix(packed.rows, kChannels, 2, 1, dtype);
    packed.dy = PaddedMatrix(packed.rows, kChannels, 1, 3, dtype);
    packed.x.FillRandom(1000), packed.dy.FillRandom(1001);
    for (size_t i = 0; i < packed.runs.size(); ++i) {
      const TokenRun& run = packed.runs[i];
      const ConstMatrixView from(run.x.data(), run.length, kChannels), gradient(run.dy.data(), run.length, kChannels);
      Convert(from, packed.x.View().Rows(packed.begins[i], run.length));
      Convert(gradient, packed.dy.View().Rows(packed.begins[i], run.length));
    }
    std::swap(packed.runs[0], packed.runs[4]);
    std::swap(packed.begins[0], packed.begins[4]);
    return packed;
  }

  // All runs in one call; results by run, the weight gradients in the first.
  std::vector<Result> Together() {
    const TokenRun& first = runs[0];
    PaddedMatrix y(rows, kChannels, 3, 2, first.dtype), dx(rows, kChannels, 0, 1, first.dtype);
    std::vector<Result> out(runs.size());
    std::vector<ConvSegment> segments;
    for (size_t i = 0; i < runs.size(); ++i) {
      out[i].state_out = out[i].dstate_in = Floats(runs[i].state_in.size(), -1.0f);
      segments.push_back({begins[i], runs[i].length, runs[i].state_in.data(), out[i].state_out.data(),
                          runs[i].dstate_out.data(), out[i].dstate_in.data()});
    }
    out[0].dweight = Floats(first.weight.size(), 1.0f);
    out[0].dbias = Floats(first.bias.size(), 2.0f);
    const ConvInputs in = first.Call(x.View(), segments);
    CausalConv1dSilu(in, y.View());
    CausalConv1dSiluBackward(
        in, {.dy = dy.View(), .dx = dx.View(), .dweight = out[0].dweight.data(), .dbias = out[0].dbias.data()});
    const Floats all_y = y.Dense(), all_dx = dx.Dense();
    for (size_t i = 0; i < runs.size(); ++i) {
      const int64_t from = begins[i] * kChannels, to = from + runs[i].length * kChannels;
      out[i].y.assign(all_y.begin() + from, all_y.begin() + to);
      out[i].dx.assign(all_dx.begin() + from, all_dx.begin() + to);
    }
    return out;
  }

 private:
  Packed() : x(0, kChannels), dy(0, kChannels) {}
};

void ExpectPackedRunsGiveTheBitsOfSeparateOnes(DType dtype) {
  for (const int64_t width : {2, 4, 8}) {
    Packed packed = Packed::Make(width, dtype);
    test::ForEachSimdTarget([&] {
      const auto together = packed.Together();
      std::vector<double> dweight(packed.runs[0].weight.size(), 1.0), dbias(packed.runs[0].bias.size(), 2.0);
      for (size_t i = 0; i < packed.runs.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "width " << width << ", run of " << packed.runs[i].length);
        const Result alone = Whole(packed.runs[i]);
        EXPECT_TRUE(test::SameBits(together[i].y, alone.y));
        EXPECT_TRUE(test::SameBits(together[i].state_out, alone.state_out));
        EXPECT_TRUE(test::SameBits(together[i].dx, alone.dx));
        EXPECT_TRUE(test::SameBits(together[i].dstate_in, alone.dstate_in));
        for (size_t j = 0; j < dweight.size(); ++j) dweight[j] += static_cast<double>(alone.dweight[j]) - 1.0;
        for (size_t j = 0; j < dbias.size(); ++j) dbias[j] += static_cast<double>(alone.dbias[j]) - 2.0;
      }
      // Some 210 terms, u each, both ways.
      EXPECT_LE(test::RelativeFrobeniusError(together[0].dweight, dweight), 210 * test::kFloatEps);
      EXPECT_LE(test::RelativeFrobeniusError(together[0].dbias, dbias), 210 * test::kFloatEps);
    });
  }
}

TEST(CausalConv1d, PackedRunsGiveTheBitsOfSeparateOnes) {
  ExpectPackedRunsGiveTheBitsOfSeparateOnes(DType::kF32);
  ExpectPackedRunsGiveTheBitsOfSeparateOnes(DType::kBF16);
}

// The run lies between rows of others, which must not leak in.
TEST(CausalConv1d, NoStateIsAStateOfZeros) {
  constexpr int64_t kChannels = 19, kBefore = 8, kAfter = 8;
  for (const int64_t length : {0, 1, 2, 9}) {
    TokenRun run(length, kChannels, 4, 1);
    std::fill(run.state_in.begin(), run.state_in.end(), 0.0f);
    std::fill(run.dstate_out.begin(), run.dstate_out.end(), 0.0f);
    const int64_t rows = kBefore + length + kAfter;
    PaddedMatrix x(rows, kChannels), dy(rows, kChannels), y(rows, kChannels), dx(rows, kChannels);
    x.FillRandom(1000), dy.FillRandom(1001);
    CopyMatrix(ConstMatrixView(run.x.data(), length, kChannels), x.View().Rows(kBefore, length));
    CopyMatrix(ConstMatrixView(run.dy.data(), length, kChannels), dy.View().Rows(kBefore, length));
    const auto rows_of_run = [&](const PaddedMatrix& from) {
      Floats out(run.x.size());
      CopyMatrix(from.View().Rows(kBefore, length), MatrixView(out.data(), length, kChannels));
      return out;
    };
    test::ForEachSimdTarget([&] {
      const Result zeros = Whole(run);
      Floats dweight(run.weight.size(), 1.0f), dbias(run.bias.size(), 2.0f);
      Floats state(run.state_in.size(), -1.0f), dstate(run.state_in.size(), -1.0f);
      ConvSegment segment = {kBefore, length, nullptr, state.data(), nullptr, dstate.data()};
      const auto backward = [&] {
        CausalConv1dSiluBackward(run.Call(x.View(), {&segment, 1}),
                                 {.dy = dy.View(), .dx = dx.View(), .dweight = dweight.data(), .dbias = dbias.data()});
      };
      CausalConv1dSilu(run.Call(x.View(), {&segment, 1}), y.View());
      backward();
      const Result fresh = {rows_of_run(y), state, rows_of_run(dx), dstate, dweight, dbias};
      EXPECT_TRUE(test::SameBits(fresh.All(), zeros.All()));
      segment.dstate_in = nullptr;  // dropped: nothing else changes
      backward();
      EXPECT_TRUE(test::SameBits(rows_of_run(dx), zeros.dx));
    });
  }
}

TEST(CausalConv1d, RowsOfNoSegmentStayAsTheyAre) {
  PaddedMatrix x(6, 5), y(6, 5), dx(6, 5);
  x.FillRandom(1), y.FillRandom(2), dx.FillRandom(3);
  const Floats weight = test::RandomVector<float>(20, 4), bias = test::RandomVector<float>(5, 5);
  const Floats y_before = y.Dense(), dx_before = dx.Dense();
  Floats dweight(20), dbias(5);
  const ConvSegment segment = {2, 3};
  const ConvInputs in = {x.View(), weight.data(), bias.data(), 4, {&segment, 1}};
  CausalConv1dSilu(in, y.View());
  CausalConv1dSiluBackward(in, {.dy = x.View(), .dx = dx.View(), .dweight = dweight.data(), .dbias = dbias.data()});
  for (const int64_t row : {0, 1, 2, 3, 4, 5}) {
    const bool inside = row >= 2 && row < 5;
    EXPECT_EQ(std::memcmp(y.View().F32(row), &y_before[static_cast<size_t>(row * 5)], 20) != 0, inside) << row;
    EXPECT_EQ(std::memcmp(dx.View().F32(row), &dx_before[static_cast<size_t>(row * 5)], 20) != 0, inside) << row;
  }
}

TEST(CausalConv1d, ThreadsDoNotMatter) {
  const TokenRun run(300, 300, 4, 1), half(300, 300, 4, 1, DType::kBF16);
  Packed packed = Packed::Make(4);
  test::ForEachSimdTarget([&] {
    test::ExpectSameBitsForAnyThreads([&] { return Whole(run).All(); });
    test::ExpectSameBitsForAnyThreads([&] { return Whole(half).All(); });
    test::ExpectSameBitsForAnyThreads([&] {
      Floats all;
      for (const Result& result : packed.Together()) {
        const Floats part = result.All();
        all.insert(all.end(), part.begin(), part.end());
      }
      return all;
    });
  });
}

TEST(CausalConv1d, RefusesImpossibleCalls) {
  PaddedMatrix x(4, 3), y(4, 3), other(4, 2);
  const Floats weight(27), bias(3);
  const auto forward = [&](int64_t width, ConvSegment segment, MatrixView out) {
    CausalConv1dSilu({x.View(), weight.data(), bias.data(), width, {&segment, 1}}, out);
  };
  EXPECT_NO_THROW(forward(4, {0, 4}, y.View()));
  EXPECT_THROW(forward(1, {0, 4}, y.View()), InternalError);
  EXPECT_THROW(forward(9, {0, 4}, y.View()), InternalError);
  EXPECT_THROW(forward(4, {1, 4}, y.View()), InternalError);
  EXPECT_THROW(forward(4, {0, 4}, x.View()), InternalError);
  EXPECT_THROW(forward(4, {0, 4}, other.View()), InternalError);
  EXPECT_THROW(forward(4, {0, 4}, PaddedMatrix(4, 3, 0, 0, DType::kBF16).View()), InternalError);
}

}  // namespace
}  // namespace taipan
