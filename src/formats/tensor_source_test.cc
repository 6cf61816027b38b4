#include "formats/tensor_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/rng.h"
#include "base/test_folder.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

namespace taipan {
namespace {

using testing::HasSubstr;

constexpr int64_t kRows = 70, kCols = 4096;  // more than a task

Tensor Values() {
  Tensor t({kRows, kCols});
  for (int64_t i = 0; i < t.size(); ++i) {
    t.F32()[i] = static_cast<float>(RandomNormal({1, kTestStream}, static_cast<uint64_t>(i)));
  }
  return t;
}

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.bytes() == b.bytes() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) == 0;
}

class TensorSourceTest : public testing::Test {
 protected:
  std::string Gguf(GgmlType type) {
    const std::string path = folder_ / (NameOf(type) + ".gguf");
    WriteGguf(path, {{"general.architecture", std::string("x")}}, {{"a", type, {kRows, kCols}, Values}});
    return path;
  }
  std::string Safetensors(DType dtype) {
    const std::string path = folder_ / (std::string(NameOf(dtype)) + ".safetensors");
    SafetensorsItem item{.name = "a", .dtype = dtype, .shape = {kRows, kCols}};
    std::vector<double> doubles;
    if (dtype == DType::kF64) {
      const Tensor values = Values();
      doubles.assign(values.F32(), values.F32() + values.size());
      item.data = doubles.data();
    } else {
      item.values = Values;
    }
    WriteSafetensors(path, {item});
    return path;
  }
  std::vector<std::string> All() {
    return {Safetensors(DType::kF32), Safetensors(DType::kF64), Safetensors(DType::kF16), Safetensors(DType::kBF16),
            Gguf(GgmlType::kF32),     Gguf(GgmlType::kF16),     Gguf(GgmlType::kBF16),    Gguf(GgmlType::kQ8_0)};
  }

  const std::vector<int64_t> shape_ = {kRows, kCols};
  TestFolder folder_;
};

TEST_F(TensorSourceTest, BF16IsTheRoundedF32OfEveryType) {
  for (const std::string& path : All()) {
    const auto source = OpenTensors(path);
    const Tensor f32 = source->ReadF32("a", shape_), bf16 = source->Read("a", shape_, DType::kBF16);
    Tensor rounded(shape_, DType::kBF16);
    for (int64_t i = 0; i < f32.size(); ++i) rounded.As<BF16>()[i] = ToBF16(f32.F32()[i]);
    EXPECT_TRUE(SameBits(bf16, rounded)) << path;
  }
}

TEST_F(TensorSourceTest, RowsAreThoseOfTheWhole) {
  for (const std::string& path : All()) {
    auto source = OpenTensors(path);
    const Tensor f32 = source->ReadF32("a", shape_);
    const ReadRow rows = source->Rows("a", shape_);
    source.reset();
    std::vector<float> row(kCols);
    for (const int64_t r : {int64_t{0}, int64_t{1}, kRows - 1}) {
      rows(r, row.data());
      EXPECT_EQ(std::memcmp(row.data(), f32.F32() + r * kCols, kCols * sizeof(float)), 0) << path;
    }
  }
}

TEST_F(TensorSourceTest, ViewsWhatIsStoredSo) {
  for (const auto& [path, dtype] :
       {std::pair(Safetensors(DType::kBF16), DType::kBF16), std::pair(Gguf(GgmlType::kBF16), DType::kBF16),
        std::pair(Safetensors(DType::kF32), DType::kF32)}) {
    auto source = OpenTensors(path);
    const DType other = dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
    EXPECT_TRUE(source->View("a", shape_, {}, other).empty());
    const Tensor view = source->View("a", shape_, {}, dtype), read = source->Read("a", shape_, dtype);
    source.reset();
    EXPECT_TRUE(view.is_view());
    EXPECT_TRUE(SameBits(view, read)) << path;
  }
  EXPECT_TRUE(OpenTensors(Gguf(GgmlType::kQ8_0))->View("a", shape_, {}, DType::kBF16).empty());
  EXPECT_THAT(UserErrorOf([&] {
                OpenTensors(folder_ / "BF16.gguf")->View("a", {kCols, kRows}, {}, DType::kBF16);
              }),
              HasSubstr("wrong shape"));
}

TEST_F(TensorSourceTest, PartsAreTheirRows) {
  for (const std::string& path : All()) {
    const auto source = OpenTensors(path);
    const Tensor whole = source->ReadF32("a", shape_);
    Tensor part({3, kCols});
    source->ReadInto("a", shape_, {5, 3}, part);
    EXPECT_EQ(std::memcmp(part.data(), whole.F32() + 5 * kCols, static_cast<size_t>(part.bytes())), 0) << path;
  }
  const auto source = OpenTensors(folder_ / "BF16.gguf");
  const Tensor whole = source->View("a", shape_, {}, DType::kBF16),
               part = source->View("a", shape_, {5, 3}, DType::kBF16);
  EXPECT_EQ(part.shape(), (std::vector<int64_t>{3, kCols}));
  EXPECT_EQ(part.data(), whole.As<BF16>() + 5 * kCols);
}

// The second tensor of this file stands two bytes off.
TEST_F(TensorSourceTest, WhatIsNotAlignedIsRead) {
  const BF16 values[3] = {ToBF16(1), ToBF16(2), ToBF16(3)};
  WriteSafetensors(folder_ / "x.safetensors", {{"a", DType::kBF16, {1}, values}, {"b", DType::kBF16, {2}, values + 1}});
  const auto source = OpenTensors(folder_ / "x.safetensors");
  EXPECT_FALSE(source->View("a", {1}, {}, DType::kBF16).empty());
  EXPECT_TRUE(source->View("b", {2}, {}, DType::kBF16).empty());
  EXPECT_EQ(ToFloat(source->Read("b", {2}, DType::kBF16).As<BF16>()[1]), 3);
}

}  // namespace
}  // namespace taipan
