#pragma once
// The tensors of a checkpoint by name, whatever the files are: one safetensors file, shards of it, or GGUF.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "tensor/ggml_blocks.h"
#include "tensor/tensor.h"

namespace taipan {

// n elements, whole blocks, at any address.
using DecodeElements = std::function<void(const void* from, int64_t n, float* to)>;

struct StoredTensor {
  std::string file;  // that holds it
  std::string name;  // there
  std::string type;  // of its elements as the format names it: "F32", "BF16", "Q4_1"
  std::vector<int64_t> shape;
  bool leading_ones = true;  // false: the format may leave out sizes of 1 in front (GGUF)
  const void* data = nullptr;
  int64_t bytes = 0;
  int64_t block = 1, block_bytes = 0;                       // elements that only stand together, and their bytes
  std::optional<DType> dtype = {};                          // where elements are plain f32 or bf16
  std::optional<GgmlType> quantized = {};                   // where they stand in blocks of several
  DecodeElements decode = nullptr;                          // null: integers, which are no weights
  std::shared_ptr<const MappedFile> file_mapped = nullptr;  // null: memory of the caller
};

bool HasShape(const StoredTensor& tensor, const std::vector<int64_t>& expected);

struct RowRange {
  int64_t begin = 0, count = 0;  // 0 rows: all
};

// Writes a row of a matrix as f32.
using ReadRow = std::function<void(int64_t row, float* to)>;

// Rows of a matrix as they are stored. UserError where the file changed meanwhile.
void ReadStoredRows(const StoredTensor& from, RowRange rows, void* to);

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& path() const = 0;         // the file or folder that was opened
  virtual std::vector<std::string> Names() const = 0;  // sorted
  virtual bool Has(const std::string& name) const = 0;
  virtual StoredTensor Stored(const std::string& name) const = 0;  // UserError where there is none of that name

  // The values with the shape asked for, as f32 or bf16 (rounded to nearest, ties to even), in memory of our own.
  // UserError where the name, the shape or the type does not fit.
  Tensor Read(const std::string& name, const std::vector<int64_t>& shape, DType dtype) const;
  // Rows of it into a tensor of that many.
  void ReadInto(const std::string& name, const std::vector<int64_t>& shape, RowRange rows, Tensor& to) const;
  Tensor ReadF32(const std::string& name, const std::vector<int64_t>& shape) const {
    return Read(name, shape, DType::kF32);
  }
  // The same as a view of the mapped file; empty where the file does not hold that type, or not aligned.
  Tensor View(const std::string& name, const std::vector<int64_t>& shape, RowRange rows, DType dtype) const;
  // Rows of a matrix, decoded from the mapped file when they are asked for.
  ReadRow Rows(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  StoredTensor Fitting(const std::string& name, const std::vector<int64_t>& shape, RowRange rows = {}) const;
};

// `path`: a GGUF or .safetensors file, or a folder with model.safetensors or its shards.
std::unique_ptr<TensorSource> OpenTensors(const std::string& path);

// What every reader says of a name that it does not have, and of a shape that is not the one asked for.
[[noreturn]] void RefuseMissingTensor(const std::string& file, const std::string& name,
                                      const std::vector<std::string>& names);
void CheckTensorShape(const std::string& file, const std::string& name, const std::vector<int64_t>& expected,
                      const std::vector<int64_t>& found);

}  // namespace taipan
