#pragma once
// Element types of GGUF files. A quantised row is a run of blocks; a block is 32 or 256 weights behind shared scales.
// Values agree bit for bit with ggml's own conversion.

#include <cstdint>
#include <optional>
#include <string>

namespace taipan {

// The numbers are those of the file format.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

std::optional<GgmlType> GgmlTypeOf(uint32_t number);  // none: unknown here
// Name of any number that a file may carry, those that this engine does not read included: "IQ2_XS", "type 99".
std::string GgmlTypeName(uint32_t number);
inline std::string NameOf(GgmlType type) { return GgmlTypeName(static_cast<uint32_t>(type)); }
std::optional<GgmlType> GgmlTypeNamed(const std::string& name);  // in either case; none: unknown here
std::string ReadableGgmlTypes();                                 // "F32, F16, Q4_0, ..." for messages
int64_t BlockElements(GgmlType type);                            // 1 where elements stand alone
int64_t BlockBytes(GgmlType type);

// n weights, a multiple of BlockElements, at any address.
void Dequantize(GgmlType type, const void* from, int64_t n, float* to);

}  // namespace taipan
