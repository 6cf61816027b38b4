#include "model/default_dtype.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"
#include "formats/safetensors.h"
#include "kernels/gemm/gemm_tile.h"

namespace taipan {
namespace {

ModelConfig Even() {
  ModelConfig config;
  config.state_size = config.head_dim = config.attention_head_dim = 16;
  return config;
}

TEST(DefaultDType, FollowsTheCpuAndTheSizes) {
  const bool fast = ActiveProductIsa() >= ProductIsa::kAvx512BF16;
  EXPECT_EQ(FastDType(Even()), fast ? DType::kBF16 : DType::kF32);
  ModelConfig odd = Even();
  odd.head_dim = 15;
  EXPECT_EQ(FastDType(odd), DType::kF32);
}

TEST(DefaultDType, WeightsInF32StayExact) {
  const TestFolder folder;
  const Tensor exact({2, 4}), half({2, 4}, DType::kBF16);
  WriteSafetensors(folder / "f32.safetensors", {{"a", DType::kF32, {2, 4}, exact.data()}});
  WriteSafetensors(folder / "bf16.safetensors",
                   {{"a", DType::kBF16, {2, 4}, half.data()}, {"norm", DType::kF32, {2, 4}, exact.data()}});
  EXPECT_EQ(DefaultInferenceDType(Even(), *OpenTensors(folder / "f32.safetensors")), DType::kF32);
  EXPECT_EQ(DefaultInferenceDType(Even(), *OpenTensors(folder / "bf16.safetensors")), FastDType(Even()));
}

}  // namespace
}  // namespace taipan
