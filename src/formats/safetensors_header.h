#pragma once
// The JSON header of a safetensors file, checked on its own: bytes in, names, dtypes, shapes and offsets out.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace taipan {

struct SafetensorsHeaderEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  // bytes from the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsHeaderEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

// `json` without the length before it; `data_bytes` follow it in the file. UserErrors name `path`.
SafetensorsHeader ParseSafetensorsHeader(std::string_view json, int64_t data_bytes, const std::string& path);

// A name from a file as it may stand in a message of one line: quoted, escaped, shortened.
std::string QuoteName(std::string_view name);
// A shape from a file for a message: "[2, 3]", or only the number of dimensions where they are many.
std::string ShortShape(const std::vector<int64_t>& shape);

}  // namespace taipan
