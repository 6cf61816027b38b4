#include "tensor/tensor.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace taipan
