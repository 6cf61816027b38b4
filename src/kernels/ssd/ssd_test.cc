#include "kernels/ssd/ssd.h"

#include <gtest/gtest.h>

#include "kernels/ssd/ssd_reference.h"
#include "kernels/test_util.h"

namespace taipan {
namespace {

using reference::SsdProblem;
using test::ConvertTo;
using test::RandomVector;
using test::RelativeFrobeniusError;

// Sums of about N + Q + P products of unit numbers, each rounded to 2^-24, their errors adding as a random walk; the
// decay's exponent carries |cum| <= 40 at 2^-24. 2e-5 of the norm is ten times what such sums show.
constexpr double kTolerance = 2e-5;

SsdProblem<double> MakeProblem(SsdShape shape, int64_t length, uint64_t seed, double decay = 1) {
  SsdProblem<double> in;
  in.shape = shape;
  in.length = length;
  in.x = RandomVector<double>(length * shape.heads * shape.head_dim, seed);
  in.dt = RandomVector<double>(length * shape.heads, seed + 1);
  for (double& v : in.dt) v = static_cast<float>(0.05 + 0.1 * v * v);
  in.b = RandomVector<double>(length * shape.groups * shape.d_state, seed + 2, 0.5);
  in.c = RandomVector<double>(length * shape.groups * shape.d_state, seed + 3, 0.5);
  in.a = RandomVector<double>(shape.heads, seed + 4);
  for (double& v : in.a) v = -static_cast<double>(static_cast<float>(decay * std::exp(v)));
  in.d = RandomVector<double>(shape.heads, seed + 5);
  in.state = RandomVector<double>(shape.state_size(), seed + 6);
  return in;
}

// The same problem for the kernel, x, B and C being columns of one wider matrix as in the block.
struct KernelProblem {
  explicit KernelProblem(const SsdProblem<double>& p)
      : shape(p.shape),
        xbc(p.length, p.shape.heads * p.shape.head_dim + 2 * p.shape.groups * p.shape.d_state, 3, 1),
        dt(p.length, p.shape.heads, 2, 5),
        a(ConvertTo<float>(p.a)),
        d(ConvertTo<float>(p.d)),
        state(ConvertTo<float>(p.state)) {
    const int64_t hp = p.shape.heads * p.shape.head_dim, gn = p.shape.groups * p.shape.d_state;
    for (int64_t t = 0; t < p.length; ++t) {
      float* row = xbc.View().F32(t);
      std::copy_n(p.x.data() + t * hp, hp, row);
      std::copy_n(p.b.data() + t * gn, gn, row + hp);
      std::copy_n(p.c.data() + t * gn, gn, row + hp + gn);
    }
    dt.Fill(ConvertTo<float>(p.dt));
  }
  SsdInputs Inputs() {
    const int64_t hp = shape.heads * shape.head_dim, gn = shape.groups * shape.d_state;
    return {xbc.View().Cols(0, hp),       dt.View(), xbc.View().Cols(hp, gn),
            xbc.View().Cols(hp + gn, gn), a.data(),  d.data()};
  }
  SsdShape shape;
  test::PaddedMatrix xbc, dt;
  std::vector<float> a, d, state;
};

std::vector<SsdShape> Shapes() {
  // heads, head_dim, d_state, groups, chunk
  return {{1, 1, 1, 1, 1}, {2, 4, 3, 1, 4}, {4, 17, 9, 2, 16}, {2, 64, 128, 1, 64}, {6, 8, 33, 3, 20}};
}
// The second decay leaves nothing of a token, and exponents that it would make overflow if their sign were wrong.
std::vector<std::pair<int64_t, double>> LengthsAndDecays() {
  std::vector<std::pair<int64_t, double>> all;
  for (const int64_t length : {0, 1, 2, 5, 16, 17, 63, 64, 65, 150}) {
    for (const double decay : {1.0, 300.0}) all.emplace_back(length, decay);
  }
  return all;
}

TEST(SsdReference, GradientsAgreeWithCentralDifferences) {
  const SsdProblem<double> base = MakeProblem({2, 3, 4, 1, 4}, 7, 11);
  const auto dy = RandomVector<double>(static_cast<int64_t>(base.x.size()), 31);
  const auto dstate = RandomVector<double>(base.shape.state_size(), 32);
  const auto loss = [&](const SsdProblem<double>& p) {
    const auto out = reference::Ssd(p);
    const std::vector<double> last(out.states.end() - p.shape.state_size(), out.states.end());
    return test::DotProduct(out.y, dy) + test::DotProduct(last, dstate);
  };
  const auto g = reference::SsdBackward(base, reference::Ssd(base), dy, dstate);
  const auto check = [&](std::vector<double> SsdProblem<double>::*member, const std::vector<double>& analytic,
                         const char* name) {
    test::CheckGradient(
        [&](const std::vector<double>& v) {
          SsdProblem<double> p = base;
          p.*member = v;
          return loss(p);
        },
        base.*member, analytic, name);
  };
  check(&SsdProblem<double>::x, g.x, "x");
  check(&SsdProblem<double>::dt, g.dt, "dt");
  check(&SsdProblem<double>::b, g.b, "B");
  check(&SsdProblem<double>::c, g.c, "C");
  check(&SsdProblem<double>::a, g.a, "A");
  check(&SsdProblem<double>::d, g.d, "D");
  check(&SsdProblem<double>::state, g.state, "state");
}

TEST(Ssd, ForwardAgreesWithTheRecurrence) {
  test::ForEachSimdTarget([] {
    for (const SsdShape& shape : Shapes()) {
      for (const auto& [length, decay] : LengthsAndDecays()) {
        for (const int64_t position : {int64_t{0}, int64_t{3}}) {
          SsdProblem<double> p = MakeProblem(shape, length, 100, decay);
          if (position == 0) std::fill(p.state.begin(), p.state.end(), 0.0);
          const auto expected = reference::Ssd(p);
          KernelProblem k(p);
          test::PaddedMatrix y(length, shape.heads * shape.head_dim, 1, 3);
          std::vector<float> state = k.state;
          SsdSegment seg{0, length, position, position ? state.data() : nullptr, state.data(), nullptr, nullptr};
          Arena scratch;
          SsdForward(shape, k.Inputs(), {&seg, 1}, y.View(), nullptr, scratch);
          const std::vector<double> last(expected.states.end() - shape.state_size(), expected.states.end());
          ASSERT_LE(RelativeFrobeniusError(y.Dense(), expected.y), kTolerance) << length << " chunk " << shape.chunk;
          ASSERT_LE(RelativeFrobeniusError(state, last), kTolerance) << length << " chunk " << shape.chunk;
          ASSERT_TRUE(y.GuardsIntact());
        }
      }
    }
  });
}

struct KernelGradients {
  KernelGradients(const SsdShape& s, int64_t length)
      : dx(length, s.heads * s.head_dim, 1, 2),
        ddt(length, s.heads, 2, 1),
        db(length, s.groups * s.d_state, 0, 3),
        dc(length, s.groups * s.d_state, 5, 0),
        da(static_cast<size_t>(s.heads)),
        dd(static_cast<size_t>(s.heads)),
        dstate(static_cast<size_t>(s.state_size())) {}
  SsdGradients Views(ConstMatrixView dy) {
    return {dy, dx.View(), ddt.View(), db.View(), dc.View(), da.data(), dd.data()};
  }
  test::PaddedMatrix dx, ddt, db, dc;
  std::vector<float> da, dd, dstate;
};

TEST(Ssd, BackwardAgreesWithTheRecurrence) {
  test::ForEachSimdTarget([] {
    for (const SsdShape& shape : Shapes()) {
      for (const auto& [length, decay] : LengthsAndDecays()) {
        if (length == 0) continue;
        const SsdProblem<double> p = MakeProblem(shape, length, 200, decay);
        const auto dy = RandomVector<double>(static_cast<int64_t>(p.x.size()), 33);
        const auto dstate = RandomVector<double>(shape.state_size(), 34);
        const auto expected = reference::SsdBackward(p, reference::Ssd(p), dy, dstate);
        KernelProblem k(p);
        KernelGradients g(shape, length);
        const std::vector<float> dstate_out = ConvertTo<float>(dstate);
        SsdSegment seg{0, length, 5, k.state.data(), nullptr, dstate_out.data(), g.dstate.data()};
        Arena scratch;
        std::vector<float> entering(static_cast<size_t>(SsdChunks(shape, {&seg, 1}) * shape.state_size()));
        test::PaddedMatrix y(length, shape.heads * shape.head_dim), dyk(length, shape.heads * shape.head_dim, 2, 1);
        dyk.Fill(ConvertTo<float>(dy));
        SsdForward(shape, k.Inputs(), {&seg, 1}, y.View(), entering.data(), scratch);
        SsdBackward(shape, k.Inputs(), {&seg, 1}, entering.data(), g.Views(dyk.View()), scratch);
        ASSERT_LE(RelativeFrobeniusError(g.dx.Dense(), expected.x), kTolerance) << length << " chunk " << shape.chunk;
        ASSERT_LE(RelativeFrobeniusError(g.ddt.Dense(), expected.dt), 2 * kTolerance)
            << length << " chunk " << shape.chunk;
        ASSERT_LE(RelativeFrobeniusError(g.db.Dense(), expected.b), kTolerance) << length << " chunk " << shape.chunk;
        ASSERT_LE(RelativeFrobeniusError(g.dc.Dense(), expected.c), kTolerance) << length << " chunk " << shape.chunk;
        if (decay == 1) {
          ASSERT_LE(RelativeFrobeniusError(g.da, expected.a), 5 * kTolerance) << length << " chunk " << shape.chunk;
        }
        // After strong decays dA is what remains where terms of the size of ddt cancel.
        for (size_t h = 0; h < g.da.size(); ++h) {
          ASSERT_NEAR(g.da[h], expected.a[h], kTolerance * std::sqrt(test::DotProduct(expected.dt, expected.dt)));
        }
        ASSERT_LE(RelativeFrobeniusError(g.dd, expected.d), 5 * kTolerance) << length << " chunk " << shape.chunk;
        ASSERT_LE(RelativeFrobeniusError(g.dstate, expected.state), kTolerance) << length << " chunk " << shape.chunk;
        ASSERT_TRUE(g.dx.GuardsIntact() && g.ddt.GuardsIntact() && g.db.GuardsIntact() && g.dc.GuardsIntact());
      }
    }
  });
}

std::vector<float> RunPieces(const SsdProblem<double>& p, const std::vector<int64_t>& lengths) {
  KernelProblem k(p);
  test::PaddedMatrix y(p.length, p.shape.heads * p.shape.head_dim);
  Arena scratch;
  int64_t at = 0;
  for (const int64_t length : lengths) {
    SsdSegment seg{at, length, at, k.state.data(), k.state.data(), nullptr, nullptr};
    SsdForward(p.shape, k.Inputs(), {&seg, 1}, y.View(), nullptr, scratch);
    at += length;
  }
  std::vector<float> all = y.Dense();
  all.insert(all.end(), k.state.begin(), k.state.end());
  return all;
}

TEST(Ssd, PiecesOnTheGridGiveTheSameBits) {
  const SsdProblem<double> p = MakeProblem({4, 8, 12, 2, 16}, 100, 300);
  const std::vector<float> whole = RunPieces(p, {100});
  EXPECT_TRUE(test::SameBits(whole, RunPieces(p, {16, 48, 32, 4})));
  EXPECT_TRUE(test::SameBits(whole, RunPieces(p, {96, 4})));
  // Off the grid only the order of sums differs.
  EXPECT_LE(RelativeFrobeniusError(RunPieces(p, {1, 1, 5, 30, 13, 50}), whole), kTolerance);
  EXPECT_LE(RelativeFrobeniusError(RunPieces(p, std::vector<int64_t>(100, 1)), whole), kTolerance);
}

// Alone and beside a piece, with and without a state to write.
TEST(Ssd, StepsHaveTheBitsOfSingleTokens) {
  for (const SsdShape& shape : Shapes()) {
    const SsdProblem<double> p = MakeProblem(shape, 7, 350);
    const int64_t width = shape.heads * shape.head_dim;
    test::ForEachSimdTarget([&] {
      const std::vector<float> single = RunPieces(p, std::vector<int64_t>(7, 1));
      for (const bool write : {true, false}) {
        for (const int64_t steps : {7, 5}) {
          KernelProblem k(p);
          test::PaddedMatrix y(7, width);
          std::vector<float> state = k.state;
          Arena scratch;
          std::vector<SsdSegment> segments = {
              {.length = steps, .position = 3, .state_in = k.state.data(), .steps = true}};
          if (write) segments[0].state_out = state.data();
          if (steps < 7) segments.push_back({.begin = steps, .length = 7 - steps});
          SsdForward(shape, k.Inputs(), segments, y.View(), nullptr, scratch);
          const std::vector<float> all = y.Dense();
          const auto end = static_cast<std::ptrdiff_t>(steps * width);
          EXPECT_TRUE(std::equal(all.begin(), all.begin() + end, single.begin()));
          const std::vector<float> after(single.begin() + static_cast<std::ptrdiff_t>(7 * width), single.end());
          if (steps == 7) {
            EXPECT_TRUE(test::SameBits(state, write ? after : k.state));
          }
        }
      }
    });
  }
}

TEST(Ssd, ARowDoesNotDependOnWhatElseIsInTheBatchOrOnThreads) {
  const SsdProblem<double> p = MakeProblem({4, 8, 12, 1, 16}, 90, 400);
  KernelProblem k(p);
  const auto run = [&](std::vector<SsdSegment> segments, int64_t first_row) {
    test::PaddedMatrix y(p.length, 32);
    Arena scratch;
    SsdForward(p.shape, k.Inputs(), segments, y.View(), nullptr, scratch);
    const std::vector<float> dense = y.Dense();
    return std::vector<float>(dense.begin() + first_row * 32, dense.begin() + (first_row + 40) * 32);
  };
  const std::vector<float> alone = run({{50, 40, 0, nullptr, nullptr, nullptr, nullptr}}, 50);
  const std::vector<SsdSegment> together = {{0, 1, 7, k.state.data(), nullptr, nullptr, nullptr},
                                            {1, 49, 0, nullptr, nullptr, nullptr, nullptr},
                                            {50, 40, 0, nullptr, nullptr, nullptr, nullptr}};
  EXPECT_TRUE(test::SameBits(alone, run(together, 50)));
  test::ExpectSameBitsForAnyThreads([&] { return run(together, 0); });
}

TEST(Ssd, GradientsDoNotDependOnThreads) {
  const SsdProblem<double> p = MakeProblem({4, 8, 12, 2, 16}, 90, 500);
  KernelProblem k(p);
  test::ExpectSameBitsForAnyThreads([&] {
    const std::vector<SsdSegment> segments = {{0, 50, 0, nullptr, nullptr, nullptr, nullptr},
                                              {50, 40, 3, k.state.data(), nullptr, nullptr, nullptr}};
    Arena scratch;
    std::vector<float> entering(static_cast<size_t>(SsdChunks(p.shape, segments) * p.shape.state_size()));
    test::PaddedMatrix y(p.length, 32), dy(p.length, 32);
    dy.FillRandom(9);
    KernelGradients g(p.shape, p.length);
    SsdForward(p.shape, k.Inputs(), segments, y.View(), entering.data(), scratch);
    SsdBackward(p.shape, k.Inputs(), segments, entering.data(), g.Views(dy.View()), scratch);
    std::vector<float> all = g.dx.Dense();
    for (const auto& part : {g.ddt.Dense(), g.db.Dense(), g.dc.Dense(), g.da, g.dd})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  });
}

// In bf16 every value is rounded by at most 2^-8 of itself, 2^-9.3 in the mean square: the state, the weighted rows and
// the masked triangle that enter products, and y, each once (the inputs here are exact). Independent roundings add as a
// random walk: about 2^-9.3 * sqrt(4) of the norm; gradients pass three such products.
constexpr double kToleranceBF16 = 4 * 0x1p-9, kGradientToleranceBF16 = 8 * 0x1p-9;

Tensor RoundedTensor(std::vector<double>& values, int64_t rows) {
  Tensor t({rows, static_cast<int64_t>(values.size()) / rows}, DType::kBF16);
  for (size_t i = 0; i < values.size(); ++i) {
    t.As<BF16>()[i] = ToBF16(static_cast<float>(values[i]));
    values[i] = ToFloat(t.As<BF16>()[i]);
  }
  return t;
}
std::vector<float> Floats(const Tensor& t) {
  std::vector<float> out;
  for (int64_t i = 0; i < t.size(); ++i) out.push_back(ToFloat(t.As<BF16>()[i]));
  return out;
}

TEST(SsdBF16, ForwardAndBackwardAgreeWithTheRecurrence) {
  const std::vector<SsdShape> shapes = {{2, 4, 2, 1, 4}, {4, 6, 10, 2, 16}, {2, 64, 128, 1, 64}, {6, 8, 34, 3, 20}};
  test::ForEachSimdTarget([&] {
    for (const SsdShape& shape : shapes) {
      for (const int64_t length : {1, 2, 17, 64, 65, 150}) {
        SsdProblem<double> p = MakeProblem(shape, length, 200);
        const Tensor x = RoundedTensor(p.x, length), b = RoundedTensor(p.b, length), c = RoundedTensor(p.c, length);
        auto dy = RandomVector<double>(static_cast<int64_t>(p.x.size()), 33);
        const auto dstate = RandomVector<double>(shape.state_size(), 34);
        const Tensor dyk = RoundedTensor(dy, length);
        const auto forward = reference::Ssd(p);
        const auto expected = reference::SsdBackward(p, forward, dy, dstate);
        KernelProblem k(p);
        KernelGradients g(shape, length);
        const std::vector<float> dstate_out = ConvertTo<float>(dstate);
        std::vector<float> state = k.state;
        const SsdSegment seg{0, length, 5, k.state.data(), state.data(), dstate_out.data(), g.dstate.data()};
        const SsdInputs in{x.Matrix(), k.dt.View(), b.Matrix(), c.Matrix(), k.a.data(), k.d.data()};
        Arena scratch;
        std::vector<uint8_t> entering(static_cast<size_t>(SsdEnteringBytes(shape, {&seg, 1}, DType::kBF16)));
        Tensor y(x.shape(), DType::kBF16), dx = y, db(b.shape(), DType::kBF16), dc = db;
        SsdForward(shape, in, {&seg, 1}, y.Matrix(), entering.data(), scratch);
        SsdBackward(shape, in, {&seg, 1}, entering.data(),
                    {dyk.Matrix(), dx.Matrix(), g.ddt.View(), db.Matrix(), dc.Matrix(), g.da.data(), g.dd.data()},
                    scratch);
        SCOPED_TRACE(fmt::format("length {} chunk {}", length, shape.chunk));
        const std::vector<double> last(forward.states.end() - shape.state_size(), forward.states.end());
        ASSERT_LE(RelativeFrobeniusError(Floats(y), forward.y), kToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(state, last), kToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(Floats(dx), expected.x), kGradientToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(g.ddt.Dense(), expected.dt), kGradientToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(Floats(db), expected.b), kGradientToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(Floats(dc), expected.c), kGradientToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(g.da, expected.a), kGradientToleranceBF16);
        ASSERT_LE(RelativeFrobeniusError(g.dstate, expected.state), kGradientToleranceBF16);
      }
    }
  });
}

TEST(SsdTimeStep, SoftplusClampAndGradient) {
  const int64_t rows = 70, heads = 3;
  test::PaddedMatrix raw(rows, heads, 2, 1), dt(rows, heads), ddt(rows, heads), draw(rows, heads);
  raw.FillRandom(1, 3.0);
  raw.View().F32(0)[0] = 100.0f;
  raw.View().F32(0)[1] = -100.0f;
  ddt.FillRandom(2);
  const std::vector<float> bias = {0.5f, -1.0f, -4.0f};
  const float lo = 0.01f, hi = 2.5f;
  const TimeStepInputs in = {raw.View(), bias.data(), lo, hi};
  SsdTimeStep(in, dt.View());
  std::vector<float> dbias(3, 1.0f);
  std::vector<double> expected_bias(3, 1.0);
  SsdTimeStepBackward(in, {.ddt = ddt.View(), .draw = draw.View(), .ddt_bias = dbias.data()});
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      const double v = static_cast<double>(raw.View().F32(t)[h]) + bias[h];
      const double exact = v > 30 ? v : std::log1p(std::exp(v));
      EXPECT_NEAR(dt.View().F32(t)[h], std::clamp<double>(exact, lo, hi), 1e-6);
      const double slope = exact < lo || exact > hi ? 0 : 1 / (1 + std::exp(-v));
      EXPECT_NEAR(draw.View().F32(t)[h], slope * ddt.View().F32(t)[h], 1e-6);
      expected_bias[h] += slope * ddt.View().F32(t)[h];
    }
  }
  for (int h = 0; h < 3; ++h) EXPECT_NEAR(dbias[h], expected_bias[h], 1e-5);
}

}  // namespace
}  // namespace taipan
