#include "formats/tensor_source.h"

#include "base/files.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_set.h"

namespace taipan {

std::unique_ptr<TensorSource> OpenTensors(const std::string& path) {
  if (IsDirectory(path)) return std::make_unique<SafetensorsSet>(path);
  if (path.ends_with(".safetensors")) return std::make_unique<SafetensorsFile>(path);
  if (IsGgufFile(path)) return std::make_unique<GgufFile>(path);
  throw UserError({path, "not a checkpoint", "a folder, a .safetensors file or a GGUF file",
                   PathExists(path) ? "a file of another name" : "nothing there"});
}

void RefuseMissingTensor(const std::string& file, const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(name, names);
  throw UserError({.where = file,
                   .problem = "tensor " + QuoteName(name) + " is missing",
                   .hint = nearest.empty() ? fmt::format("the file has {} tensors", names.size())
                                           : "the nearest name in the file is " + QuoteName(nearest)});
}

void CheckTensorShape(const std::string& file, const std::string& name, const std::vector<int64_t>& expected,
                      const std::vector<int64_t>& found) {
  if (expected == found) return;
  throw UserError(
      {file, "tensor " + QuoteName(name) + " has the wrong shape", ShortShape(expected), ShortShape(found)});
}

}  // namespace taipan
