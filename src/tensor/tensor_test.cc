#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <utility>

namespace taipan {
namespace {

template <class T>
concept HasDType = requires {
  ElementType<T>::kDType;
};

TEST(ElementType, OthersThanThoseThatCodeIsWrittenForDoNotCompile) {
  static_assert(HasDType<float> && HasDType<BF16>);
  static_assert(!HasDType<double> && !HasDType<int32_t> && !HasDType<uint16_t>);
  EXPECT_EQ(kDTypeOf<float>, DType::kF32);
  EXPECT_EQ(kDTypeOf<BF16>, DType::kBF16);
}

TEST(Tensor, AViewKeepsItsMemoryAndIsNotWritten) {
  auto memory = std::make_shared<std::vector<float>>(6);
  std::iota(memory->begin(), memory->end(), 1.0f);
  const std::weak_ptr<std::vector<float>> watched = memory;
  Tensor view = Tensor::View({2, 3}, DType::kF32, {memory, memory->data()});
  EXPECT_EQ(std::as_const(view).data(), memory->data());
  memory.reset();
  Tensor copy = view;
  EXPECT_TRUE(view.is_view());
  EXPECT_FALSE(copy.is_view());
  EXPECT_THROW(view.data(), InternalError);
  EXPECT_THROW(view.Matrix(), InternalError);
  EXPECT_THROW(view.Zero(), InternalError);
  copy.F32()[0] = 9;
  EXPECT_EQ(std::as_const(view).F32()[0], 1);
  EXPECT_EQ(std::as_const(view).F32()[5], 6);
  view = copy;  // no longer a view
  EXPECT_EQ(view.F32()[0], 9);
  EXPECT_TRUE(watched.expired());
}

TEST(Tensor, PartsShareABlock) {
  Tensor part;
  {
    Tensor block({128}, DType::kU8);
    part = Tensor::PartOf(block, 64, {4, 2}, DType::kF32);
    part.F32()[7] = 3;
    float last;
    std::memcpy(&last, static_cast<const char*>(std::as_const(block).data()) + 92, sizeof last);
    EXPECT_EQ(last, 3);
    EXPECT_THROW(Tensor::PartOf(block, 64, {17}, DType::kF32), InternalError);
    EXPECT_THROW(Tensor::PartOf(block, 32, {1}, DType::kF32), InternalError);
  }
  EXPECT_EQ(part.F32()[7], 3);
}

}  // namespace
}  // namespace taipan
