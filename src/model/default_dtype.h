#pragma once
// What a model computes in where nobody says.

#include <string>
#include <vector>

#include "formats/tensor_source.h"
#include "model/config.h"

namespace taipan {

// What is asked for. kAuto: what follows decides.
enum class ComputeType { kAuto, kF32, kBF16 };
inline std::vector<std::string> NamesOf(ComputeType) { return {"auto", "f32", "bf16"}; }
inline ComputeType ComputeTypeOf(DType dtype) { return dtype == DType::kBF16 ? ComputeType::kBF16 : ComputeType::kF32; }
DType DTypeOf(ComputeType type);  // not of kAuto

// How keys and values are kept; kAuto: as they are computed.
enum class KvType { kAuto, kF32, kBF16, kInt8 };
inline std::vector<std::string> NamesOf(KvType) { return {"auto", "f32", "bf16", "int8"}; }
KvType KvTypeOf(DType dtype);
DType DTypeOf(KvType type);  // not of kAuto

// bf16 where this CPU has instructions for its products (AVX512-BF16 or AMX, and they are allowed) and the sizes are
// even; there it is several times as fast. Elsewhere it would be the slower one: f32.
DType FastDType(const ModelConfig& config);

// Whether a matrix is stored in blocks that products read as they are.
bool HoldsQuantized(const TensorSource& stored);

// FastDType, except that weights that are all stored in f32 are used as they are: rounding them is for the user to
// decide. Others were rounded already, to 16 bits or fewer.
DType DefaultInferenceDType(const ModelConfig& config, const TensorSource& stored);

}  // namespace taipan
