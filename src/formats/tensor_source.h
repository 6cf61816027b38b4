#pragma once
// The tensors of a checkpoint by name, whatever the files are: one safetensors file, shards of it, or GGUF.

#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace taipan {

struct StoredTensor {
  std::string file;  // that holds it
  std::string type;  // of its elements as the format names it: "F32", "BF16", "Q4_1"
  std::vector<int64_t> shape;
  int64_t bytes = 0;  // in the file
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& path() const = 0;         // the file or folder that was opened
  virtual std::vector<std::string> Names() const = 0;  // sorted
  virtual bool Has(const std::string& name) const = 0;
  virtual StoredTensor Stored(const std::string& name) const = 0;  // UserError where there is none of that name
  // As f32 with the shape asked for; UserError where the name, the shape or the type does not fit.
  virtual Tensor ReadF32(const std::string& name, const std::vector<int64_t>& shape) const = 0;
};

// `path`: a GGUF or .safetensors file, or a folder with model.safetensors or its shards.
std::unique_ptr<TensorSource> OpenTensors(const std::string& path);

// What every reader says of a name that it does not have, and of a shape that is not the one asked for.
[[noreturn]] void RefuseMissingTensor(const std::string& file, const std::string& name,
                                      const std::vector<std::string>& names);
void CheckTensorShape(const std::string& file, const std::string& name, const std::vector<int64_t>& expected,
                      const std::vector<int64_t>& found);

}  // namespace taipan
