#include "kernels/gemm/quant_rows.h"

#include <gtest/gtest.h>

#include "kernels/gemm/gemm.h"
#include "kernels/test_util.h"
#include "tensor/f16.h"

namespace taipan {
namespace {

using test::PaddedMatrix;

constexpr GgmlType kTypes[] = {GgmlType::kQ8_0, GgmlType::kQ4_0,   GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                               GgmlType::kQ4_K, GgmlType::kIQ4_NL, GgmlType::kQ5_K, GgmlType::kQ6_K};

// Rows as files store them: any bytes but for the scales in half precision, which are about `scale`.
std::vector<uint8_t> RandomRows(GgmlType type, int64_t rows, int64_t cols, uint64_t seed) {
  const int64_t block = BlockBytes(type), count = rows * cols / BlockElements(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(count * block));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(RandomBelow({seed, kTestStream}, i, 256));
  }
  const bool two = QuantFormatOf(type).head % 16 == 0 || QuantFormatOf(type).head == 4;
  const std::vector<float> scales = test::RandomVector<float>(2 * count, seed + 1);
  for (int64_t b = 0; b < count; ++b) {
    for (int64_t i = 0; i < (two ? 2 : 1); ++i) {
      const F16 half = ToF16(scales[static_cast<size_t>(2 * b + i)] * 0.01f);
      const int64_t at = type == GgmlType::kQ6_K ? 208 : 2 * i;
      std::memcpy(bytes.data() + b * block + at, &half, sizeof half);
    }
  }
  return bytes;
}

QuantMatrix Matrix(GgmlType type, const std::vector<uint8_t>& stored, int64_t rows, int64_t cols) {
  QuantMatrix m(type, rows, cols);
  const int64_t row_bytes = cols / BlockElements(type) * BlockBytes(type);
  m.SetRows([&](int64_t row, int64_t count, uint8_t* to) {
    std::copy_n(stored.begin() + row * row_bytes, count * row_bytes, to);
  });
  return m;
}

std::vector<float> Values(GgmlType type, const std::vector<uint8_t>& stored) {
  std::vector<float> values(stored.size() / static_cast<size_t>(BlockBytes(type)) *
                            static_cast<size_t>(BlockElements(type)));
  Dequantize(type, stored.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

// With VNNI where the machine has it, then without, on every SIMD target.
template <class F>
void ForEachImplementation(F&& fn) {
  test::ForEachSimdTarget([&] {
    for (const bool allowed : {true, false}) {
      AllowVnni(allowed);
      SCOPED_TRACE(UsesVnni() ? "VNNI" : "16 bits");
      fn();
    }
    AllowVnni(true);
  });
}

struct Size {
  int64_t rows, cols;
};
std::vector<Size> SizesOf(GgmlType type) {
  const int64_t block = BlockElements(type);
  return {{1, block}, {15, 3 * block}, {16, 2 * block}, {53, 5 * block}};
}

TEST(QuantMatrix, KeepsTheBytesOfEveryRow) {
  for (const GgmlType type : kTypes) {
    for (const Size& s : SizesOf(type)) {
      const std::vector<uint8_t> stored = RandomRows(type, s.rows, s.cols, 1);
      const QuantMatrix m = Matrix(type, stored, s.rows, s.cols);
      const size_t row_bytes = stored.size() / static_cast<size_t>(s.rows);
      // Nothing beyond what the type takes, but for whole groups and an even number of scales.
      const int64_t groups = (s.rows + 15) / 16;
      EXPECT_LE(m.bytes(), groups * (16 * static_cast<int64_t>(row_bytes) + 32)) << NameOf(type);
      std::vector<uint8_t> again(row_bytes);
      std::vector<float> values(static_cast<size_t>(s.cols));
      const std::vector<float> expected = Values(type, stored);
      for (int64_t r = 0; r < s.rows; ++r) {
        StoredRow(m.View(), r, again.data());
        const auto begin = stored.begin() + r * static_cast<int64_t>(row_bytes);
        ASSERT_TRUE(std::equal(again.begin(), again.end(), begin)) << NameOf(type) << " row " << r;
        DecodeRow(m.View(), r, values.data());
        ASSERT_TRUE(std::equal(values.begin(), values.end(), expected.begin() + r * s.cols)) << NameOf(type);
      }
    }
  }
}

TEST(QuantMatrix, RowsAreDecodedTheSameOnEveryTarget) {
  test::ForEachSimdTarget([] {
    for (const GgmlType type : kTypes) {
      const Size s = {53, 3 * BlockElements(type)};
      const std::vector<uint8_t> stored = RandomRows(type, s.rows, s.cols, 9);
      const QuantMatrix m = Matrix(type, stored, s.rows, s.cols);
      const std::vector<float> values = Values(type, stored);
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (const auto& [first, count] : {std::pair(0, 53), std::pair(7, 3), std::pair(15, 20)}) {
          PaddedMatrix rows(count, s.cols, 0, 0, dtype), expected(count, s.cols, 0, 0, dtype);
          const auto begin = values.begin() + first * s.cols;
          expected.Fill({begin, begin + count * s.cols});
          DecodeRows(m.View(), first, count, rows.View());
          EXPECT_TRUE(test::SameBits(rows.Dense(), expected.Dense())) << NameOf(type) << " " << first;
          EXPECT_TRUE(rows.GuardsIntact());
        }
      }
    }
  });
}

// Activations are rounded once, to steps of 1 / 16256 of the largest of 32: independent errors of a step / sqrt(12), of
// whose sum 5.5 standard deviations are allowed. Sums of runs of f32 numbers follow, each within 2^-24 of its size, and
// three factors of each.
void CheckProduct(GgmlType type, const Size& s, int64_t t, DType dtype, bool add) {
  const std::vector<uint8_t> stored = RandomRows(type, s.rows, s.cols, 2);
  const QuantMatrix m = Matrix(type, stored, s.rows, s.cols);
  const std::vector<float> w = Values(type, stored);
  PaddedMatrix x(t, s.cols, 32, 0, dtype), y(t, s.rows, 3, 1, add ? DType::kF32 : dtype);
  x.FillRandom(3);
  y.FillRandom(4);
  const std::vector<float> before = y.Dense(), in = x.Dense();
  QuantRowsProduct(x.View(), m.View(), y.View(), add);
  const std::vector<float> after = y.Dense();
  ASSERT_TRUE(y.GuardsIntact());
  // Where there is a minimum, sums of codes and of x apart are larger than the result.
  const double lift = QuantFormatOf(type).head % 4 == 0 ? 2 * 63 * 0.05 : 0;
  for (int64_t r = 0; r < t; ++r) {
    for (int64_t n = 0; n < s.rows; ++n) {
      double sum = add ? before[static_cast<size_t>(r * s.rows + n)] : 0, size = std::abs(sum), variance = 0;
      for (int64_t k = 0; k < s.cols; k += kQuantRun) {
        double most = 0;
        for (int64_t i = k; i < k + kQuantRun; ++i) {
          most = std::max(most, std::abs(static_cast<double>(in[static_cast<size_t>(r * s.cols + i)])));
        }
        for (int64_t i = k; i < k + kQuantRun; ++i) {
          const double xi = in[static_cast<size_t>(r * s.cols + i)], wi = w[static_cast<size_t>(n * s.cols + i)];
          sum += xi * wi;
          size += std::abs(xi) * (std::abs(wi) + lift);
          variance += std::pow(most / 16256 * wi, 2) / 12;
        }
      }
      const double runs = static_cast<double>(s.cols / kQuantRun);
      const double storage = test::StorageRoundoff(y.View().dtype) * std::abs(sum);
      ASSERT_NEAR(after[static_cast<size_t>(r * s.rows + n)], sum,
                  storage + 5.5 * std::sqrt(variance) + (2 * runs + 4) * 0x1p-24 * size)
          << NameOf(type) << " " << t << " x " << s.rows << " x " << s.cols << " at " << r << ", " << n;
    }
  }
}

TEST(QuantRows, AgreeWithDoublePrecision) {
  ForEachImplementation([] {
    for (const GgmlType type : kTypes) {
      int64_t t = 0;
      for (const Size& s : SizesOf(type)) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          CheckProduct(type, s, t % kFewQuantRows + 1, dtype, /*add=*/t % 3 == 0);
          ++t;
        }
      }
    }
  });
}

// However many rows and threads, and whether in bytes or in 16-bit numbers where there is fused arithmetic.
TEST(QuantRows, ARowDependsOnNothingButItselfAndTheWeight) {
  for (const GgmlType type : kTypes) {
    const Size s = {70, 4 * BlockElements(type)};
    const QuantMatrix m = Matrix(type, RandomRows(type, s.rows, s.cols, 5), s.rows, s.cols);
    PaddedMatrix x(kFewQuantRows, s.cols);
    x.FillRandom(6);
    const auto rows = [&](int64_t begin, int64_t count) {
      PaddedMatrix y(count, s.rows);
      QuantRowsProduct(x.View().Rows(begin, count), m.View(), y.View(), false);
      return y.Dense();
    };
    ForEachImplementation([&] {
      const std::vector<float> whole = rows(0, kFewQuantRows);
      test::ExpectSameBitsForAnyThreads([&] { return rows(0, kFewQuantRows); });
      for (int64_t count = 1; count < kFewQuantRows; ++count) {
        const auto from = whole.begin() + s.rows;
        EXPECT_TRUE(test::SameBits(rows(1, count), {from, from + count * s.rows})) << NameOf(type) << " " << count;
      }
    });
    if (!UsesVnni()) continue;
    const std::vector<float> bytes = rows(0, 3);
    AllowVnni(false);
    EXPECT_TRUE(test::SameBits(rows(0, 3), bytes)) << NameOf(type);
    AllowVnni(true);
  }
}

// More rows: bit for bit what the same weight gives in the type of the activations.
TEST(QuantRows, ManyRowsAreThoseOfTheDecodedWeight) {
  for (const GgmlType type : kTypes) {
    const Size s = {600, BlockElements(type)};  // several tiles of columns
    const std::vector<uint8_t> stored = RandomRows(type, s.rows, s.cols, 7);
    const QuantMatrix m = Matrix(type, stored, s.rows, s.cols);
    PaddedMatrix wide(s.rows, s.cols), narrow(s.rows, s.cols, 0, 0, DType::kBF16);
    wide.Fill(Values(type, stored));
    narrow.Fill(Values(type, stored));
    const LinearWeight quant{.f32 = {}, .quant = m.View()}, decoded{.f32 = wide.View(), .bf16 = narrow.View()};
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const int64_t t : {9, 300, type == GgmlType::kQ4_K ? 1100 : 16}) {
        PaddedMatrix x(t, s.cols, 0, 0, dtype), a(t, s.rows, 5, 1), b(t, s.rows, 5, 1);
        x.FillRandom(8);
        Linear(x.View(), quant, a.View());
        Linear(x.View(), decoded, b.View());
        EXPECT_TRUE(test::SameBits(a.Dense(), b.Dense())) << NameOf(type) << " " << t;
        Linear(x.View(), quant, a.View(), Accumulate::kAdd);
        Linear(x.View(), decoded, b.View(), Accumulate::kAdd);
        EXPECT_TRUE(test::SameBits(a.Dense(), b.Dense())) << NameOf(type) << " " << t;
        const MatrixView part = a.View().Cols(10, 77), other = b.View().Cols(10, 77);
        LinearSlice(x.View(), quant, 519, part);
        LinearSlice(x.View(), decoded, 519, other);
        EXPECT_TRUE(test::SameBits(a.Dense(), b.Dense())) << NameOf(type) << " " << t;
        ASSERT_TRUE(a.GuardsIntact());
      }
    }
  }
}

TEST(QuantRows, WhatIsNotFiniteIsNotHidden) {
  ForEachImplementation([] {
    const QuantMatrix m = Matrix(GgmlType::kQ8_0, RandomRows(GgmlType::kQ8_0, 16, 64, 1), 16, 64);
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      PaddedMatrix x(2, 64), y(2, 16);
      x.FillRandom(1);
      x.View().F32(0)[40] = -bad;
      x.View().F32(1)[0] = 1e-35f;  // and what is tiny beside the others is zero
      QuantRowsProduct(x.View(), m.View(), y.View(), false);
      for (int64_t n = 0; n < 16; ++n) {
        EXPECT_TRUE(std::isnan(y.View().F32(0)[n]));
        EXPECT_TRUE(std::isfinite(y.View().F32(1)[n]));
      }
    }
    PaddedMatrix zeros(1, 64), y(1, 16);
    zeros.View().F32()[3] = 1e-38f;
    y.FillRandom(2);
    QuantRowsProduct(zeros.View(), m.View(), y.View(), false);
    EXPECT_EQ(test::MaxAbs(y.Dense()), 0);
  });
}

}  // namespace
}  // namespace taipan
