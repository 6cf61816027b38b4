#pragma once
// Everything of a GGUF file before the bytes of its tensors, checked on its own.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"

namespace taipan {

struct GgufHeaderTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;    // row-major
  int64_t begin = 0, bytes = 0;  // in the file
};

struct GgufHeader {
  int version = 0;
  GgufMetadata metadata;
  std::vector<GgufHeaderTensor> tensors;  // in the order of the table
};

// `file` is the whole file. UserErrors name `path`.
GgufHeader ParseGgufHeader(std::string_view file, const std::string& path);

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr int kGgufMostDims = 4;
inline constexpr size_t kGgufMostNameBytes = 63;  // ggml holds names in 64 bytes with a zero at the end

inline int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace taipan
