#pragma once
// GGUF, versions 2 and 3, little-endian: typed metadata, a table of tensors, aligned tensor bytes. Read by mmap,
// written atomically. Shapes here are row-major with the fastest dimension last; the file stores them the other way
// round.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "formats/tensor_source.h"
#include "tensor/ggml_blocks.h"

namespace taipan {

// The alternatives stand in the order of the file's type numbers: the index of a value is its type.
struct GgufArray {
  using Elements = std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                                std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<bool>,
                                std::vector<std::string>, std::monostate /* arrays in arrays: refused */,
                                std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;
  Elements elements;
  bool operator==(const GgufArray&) const = default;
};
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string,
                               GgufArray, uint64_t, int64_t, double>;
using GgufMetadata = std::map<std::string, GgufValue>;

struct GgufTensor {
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // into the mapping
  int64_t bytes = 0;
};

class GgufFile : public TensorSource {
 public:
  // UserError for what is not a whole, consistent file: wrong magic, version or byte order; counts and lengths that
  // pass the end of the file; unknown types; duplicate keys or names; tensors that overlap, are not aligned or not
  // inside the file; one part of a split model.
  explicit GgufFile(const std::string& path);
  // Parses bytes in memory (tests, fuzzing); they must outlive the object.
  GgufFile(const void* bytes, int64_t size, const std::string& name);
  ~GgufFile() override;
  GgufFile(GgufFile&&) noexcept;

  int version() const { return version_; }
  const GgufMetadata& metadata() const { return metadata_; }
  bool HasKey(const std::string& key) const { return metadata_.count(key) != 0; }
  // UserError where the key is missing or holds another type. Get... accept any width of number; an integer may stand
  // for a float. A default stands for a missing key only.
  const std::string& GetString(const std::string& key) const;
  std::string GetString(const std::string& key, const std::string& otherwise) const;
  int64_t GetInt(const std::string& key, std::optional<int64_t> otherwise = {}) const;
  double GetFloat(const std::string& key, std::optional<double> otherwise = {}) const;
  bool GetBool(const std::string& key, std::optional<bool> otherwise = {}) const;
  const std::vector<std::string>& GetStrings(const std::string& key) const;
  std::vector<int64_t> GetInts(const std::string& key) const;
  std::vector<float> GetFloats(const std::string& key) const;

  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor& At(const std::string& name) const;  // UserError naming the file

  const std::string& path() const override { return path_; }
  std::vector<std::string> Names() const override;
  bool Has(const std::string& name) const override { return tensors_.count(name) != 0; }
  StoredTensor Stored(const std::string& name) const override;

 private:
  void Parse(const void* bytes, int64_t size);
  const GgufValue& Value(const std::string& key) const;
  [[noreturn]] void RefuseValue(const std::string& key, const std::string& expected, const std::string& found) const;

  std::string path_;
  std::shared_ptr<const MappedFile> mapping_;
  int version_ = 0;
  GgufMetadata metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

// By the name's end in either case, or, for files that exist, by their first bytes: caches name files as they like.
bool HasGgufName(const std::string& path);
bool IsGgufFile(const std::string& path);

// The type of a value in words: "a string", "an array of 3 float32 numbers". One line.
std::string DescribeGgufValue(const GgufValue& value);

struct GgufItem {
  std::string name;                // at most 63 bytes, what ggml accepts
  GgmlType type = GgmlType::kF32;  // one that CanQuantize
  std::vector<int64_t> shape;
  std::function<Tensor()> values;  // f32 or U8 blocks; called when its turn comes, so that one is in memory at a time
};
// Version 3, aligned to 32 bytes, tensors in the order given. Equal arguments give equal bytes. UserError where a
// tensor does not fit its type (row length, finite values out of range); nothing is left behind then.
void WriteGguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufItem>& items);

}  // namespace taipan
