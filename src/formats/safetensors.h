#pragma once
// safetensors: an 8-byte little-endian header length, a JSON header, tensor bytes. Read by mmap, written atomically.
//
// Quantized matrices, of which the format knows nothing, are bytes in it: U8 [rows, bytes of a row], blocks as GGUF has
// them. Their type stands in the metadata: "quantized.NAME": "Q4_K".

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/tensor_source.h"

namespace taipan {

struct SafetensorsEntry {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // into the mapping, perhaps not aligned beyond the file's own offsets
  int64_t bytes = 0;
};

class SafetensorsFile : public TensorSource {
 public:
  // UserError for a missing, truncated or garbage file: header longer than the file, bad JSON, unknown dtype, duplicate
  // names, offsets out of range or overlapping, gaps or bytes after the last tensor, sizes that do not match shapes.
  explicit SafetensorsFile(const std::string& path);
  // Parses bytes in memory (tests, fuzzing); they must outlive the object.
  SafetensorsFile(const void* bytes, int64_t size, const std::string& name);
  ~SafetensorsFile() override;
  SafetensorsFile(SafetensorsFile&&) noexcept;

  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const SafetensorsEntry& At(const std::string& name) const;  // UserError naming the file
  Tensor Read(const std::string& name) const;                 // as stored

  const std::string& path() const override { return path_; }
  std::vector<std::string> Names() const override;
  bool Has(const std::string& name) const override { return entries_.count(name) != 0; }
  StoredTensor Stored(const std::string& name) const override;  // weights: F32, F64, BF16, F16, quantized

 private:
  void Parse(const void* bytes, int64_t size);
  void ReadQuantizedTypes();
  std::string path_;
  std::shared_ptr<const MappedFile> mapping_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, GgmlType> quantized_;
};

struct SafetensorsItem {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // of that dtype; or, where null:
  // f32 values of an item of dtype F32, F16 or BF16, called when its turn comes, so that one is in memory at a time.
  std::function<Tensor()> values = nullptr;
  // Instead of dtype: `values` are rounded to blocks of this type or are U8 blocks; shape is that of rounded values.
  std::optional<GgmlType> quantized = {};
};
int64_t BytesOf(const SafetensorsItem& item);  // of its elements in the file
// Writes atomically (temporary file, fsync, rename). Tensors are aligned to 64 bytes by padding the header; in the
// order given. No timestamps: equal items give equal bytes. UserError where a finite value is out of F16's range.
void WriteSafetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace taipan
