#include "formats/ggml_quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/files.h"
#include "base/parallel.h"
#include "formats/ggml_round.h"
#include "formats/gguf.h"

namespace taipan {
namespace {

using testing::HasSubstr;

// Made by tools/interchange/make_gguf_golden.py.
const char* const kGolden = "tests/golden/gguf/types.gguf";

constexpr GgmlType kAll[] = {GgmlType::kF32,    GgmlType::kF16,    GgmlType::kQ4_0,  GgmlType::kQ4_1,
                             GgmlType::kQ5_0,   GgmlType::kQ5_1,   GgmlType::kQ8_0,  GgmlType::kQ2_K,
                             GgmlType::kQ3_K,   GgmlType::kQ4_K,   GgmlType::kQ5_K,  GgmlType::kQ6_K,
                             GgmlType::kIQ4_NL, GgmlType::kIQ4_XS, GgmlType::kMXFP4, GgmlType::kBF16};

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) == 0;
}

std::vector<uint8_t> Quantized(GgmlType type, const std::vector<float>& from) {
  const auto n = static_cast<int64_t>(from.size());
  std::vector<uint8_t> to(static_cast<size_t>(n / BlockElements(type) * BlockBytes(type)));
  EXPECT_TRUE(Quantize(type, from.data(), n, to.data()));
  return to;
}

std::vector<float> Dequantized(GgmlType type, const std::vector<uint8_t>& from) {
  const int64_t n = static_cast<int64_t>(from.size()) / BlockBytes(type) * BlockElements(type);
  std::vector<float> to(static_cast<size_t>(n));
  Dequantize(type, from.data(), n, to.data());
  return to;
}

TEST(GgmlBlocks, DequantizesAsTheGgufPackage) {
  if (!PathExists(kGolden)) GTEST_SKIP() << "run from the source folder";
  const GgufFile file(kGolden);
  for (const GgmlType type : kAll) {
    if (type == GgmlType::kF32) continue;
    const std::vector<int64_t> shape = file.At(NameOf(type) + ".stored").shape;
    EXPECT_EQ(file.At(NameOf(type) + ".stored").type, type);
    EXPECT_TRUE(SameBits(file.ReadF32(NameOf(type) + ".stored", shape), file.ReadF32(NameOf(type) + ".values", shape)))
        << NameOf(type);
  }
}

TEST(GgmlBlocks, QuantizesAsTheGgufPackage) {
  if (!PathExists(kGolden)) GTEST_SKIP() << "run from the source folder";
  const GgufFile file(kGolden);
  const Tensor input = file.ReadF32("input", {5, 64});
  int types = 0;
  for (const GgmlType type : kAll) {
    if (!CanQuantize(type) || CanRound(type)) continue;
    const GgufTensor& expected = file.At(type == GgmlType::kF32 ? "input" : NameOf(type) + ".stored");
    const std::vector<uint8_t> got = Quantized(type, {input.F32(), input.F32() + input.size()});
    ASSERT_EQ(static_cast<int64_t>(got.size()), expected.bytes);
    EXPECT_EQ(std::memcmp(got.data(), expected.data, got.size()), 0) << NameOf(type);
    ++types;
  }
  EXPECT_EQ(types, 4);
}

TEST(GgmlBlocks, TheRowsOfTheTableAreRight) {
  for (const GgmlType type : kAll) {
    EXPECT_EQ(GgmlTypeOf(static_cast<uint32_t>(type)), type);
    EXPECT_THAT(ReadableGgmlTypes(), HasSubstr(NameOf(type)));
  }
  EXPECT_EQ(GgmlTypeOf(16), std::nullopt);
  EXPECT_EQ(GgmlTypeName(16), "IQ2_XXS");
  EXPECT_EQ(GgmlTypeName(30), "BF16");
  EXPECT_EQ(GgmlTypeName(39), "MXFP4");
  EXPECT_EQ(GgmlTypeName(4), "type 4");  // taken out of the format
  EXPECT_EQ(GgmlTypeName(~0u), "type 4294967295");
}

TEST(GgmlBlocks, AnyAddressAndAnyNumberOfThreads) {
  constexpr int64_t kElements = 3 * (1 << 16) + 512;  // several tasks, the last one short
  const int threads = NumThreads();
  for (const GgmlType type : kAll) {
    const auto bytes = static_cast<size_t>(kElements / BlockElements(type) * BlockBytes(type));
    std::vector<uint8_t> blocks(bytes + 1);
    for (size_t i = 0; i < bytes; ++i) blocks[i + 1] = static_cast<uint8_t>(i % 61);  // small exponents: finite
    std::vector<uint8_t> aligned(blocks.begin() + 1, blocks.end());
    SetNumThreads(1);
    const std::vector<float> one = Dequantized(type, aligned);
    SetNumThreads(3);
    std::vector<float> three(one.size());
    Dequantize(type, blocks.data() + 1, kElements, three.data());
    EXPECT_EQ(one, three) << NameOf(type);
    if (!CanQuantize(type)) continue;
    std::vector<uint8_t> again(bytes + 1);
    EXPECT_TRUE(Quantize(type, one.data(), kElements, again.data() + 1));
    SetNumThreads(1);
    EXPECT_EQ(std::vector<uint8_t>(again.begin() + 1, again.end()), Quantized(type, one)) << NameOf(type);
  }
  SetNumThreads(threads);
}

TEST(GgmlBlocks, Q8IsWithinHalfAStep) {
  std::vector<float> x(320);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i)) * std::exp2(static_cast<float>(i / 32));
  const std::vector<float> back = Dequantized(GgmlType::kQ8_0, Quantized(GgmlType::kQ8_0, x));
  for (size_t i = 0; i < x.size(); ++i) {
    const float step = std::exp2(static_cast<float>(i / 32)) / 127;
    EXPECT_NEAR(back[i], x[i], step * (0.5f + 127 * 0x1p-11f)) << i;  // and the scale's own rounding
  }
}

TEST(GgmlBlocks, WhatDoesNotFitIsRefused) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto fits = [](GgmlType type, float value) {
    std::vector<float> x(64, 1.0f);
    x[40] = value;
    std::vector<uint8_t> to(256);
    return Quantize(type, x.data(), 64, to.data());
  };
  for (const float sign : {1.0f, -1.0f}) {
    EXPECT_TRUE(fits(GgmlType::kF16, sign * 65519));
    EXPECT_FALSE(fits(GgmlType::kF16, sign * 65520));
    EXPECT_TRUE(fits(GgmlType::kF16, sign * infinity));
    EXPECT_TRUE(fits(GgmlType::kBF16, sign * 0x1.fep127f));
    EXPECT_FALSE(fits(GgmlType::kBF16, sign * 0x1.ffp127f));
    EXPECT_TRUE(fits(GgmlType::kQ8_0, sign * 65504 * 127));
    EXPECT_FALSE(fits(GgmlType::kQ8_0, sign * 65521 * 127));
    EXPECT_FALSE(fits(GgmlType::kQ8_0, sign * infinity));
    EXPECT_FALSE(fits(GgmlType::kQ8_0, sign * std::numeric_limits<float>::quiet_NaN()));
  }
  EXPECT_TRUE(fits(GgmlType::kF16, std::numeric_limits<float>::quiet_NaN()));
}

TEST(GgmlBlocks, TheSmallestFloatsBecomeZero) {
  const std::vector<float> x(32, std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(Dequantized(GgmlType::kQ8_0, Quantized(GgmlType::kQ8_0, x)), std::vector<float>(32, 0.0f));
}

}  // namespace
}  // namespace taipan
