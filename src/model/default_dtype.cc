#include "model/default_dtype.h"

#include <algorithm>
#include <set>

#include "kernels/gemm/gemm_tile.h"
#include "kernels/gemm/quant_matrix.h"

namespace taipan {

DType DTypeOf(ComputeType type) {
  CHECK(type != ComputeType::kAuto);
  return type == ComputeType::kBF16 ? DType::kBF16 : DType::kF32;
}

KvType KvTypeOf(DType dtype) {
  return dtype == DType::kI8 ? KvType::kInt8 : dtype == DType::kBF16 ? KvType::kBF16 : KvType::kF32;
}

DType DTypeOf(KvType type) {
  CHECK(type != KvType::kAuto);
  return type == KvType::kInt8 ? DType::kI8 : type == KvType::kBF16 ? DType::kBF16 : DType::kF32;
}

DType FastDType(const ModelConfig& c) {
  const bool even = c.state_size % 2 == 0 && c.head_dim % 2 == 0 && c.attention_head_dim % 2 == 0;
  return even && ActiveProductIsa() >= ProductIsa::kAvx512BF16 ? DType::kBF16 : DType::kF32;
}

bool HoldsQuantized(const TensorSource& stored) {
  const std::vector<std::string> names = stored.Names();
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const std::optional<GgmlType> type = stored.Stored(name).quantized;
    return type && IsQuantFormat(*type);
  });
}

DType DefaultInferenceDType(const ModelConfig& config, const TensorSource& stored) {
  // Integers are buffers, no weights.
  static const std::set<std::string> kExact = {"F32", "F64", "I64", "I32", "BOOL"};
  const std::vector<std::string> names = stored.Names();
  const bool exact = std::all_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return kExact.count(stored.Stored(name).type) > 0; });
  return exact ? DType::kF32 : FastDType(config);
}

}  // namespace taipan
