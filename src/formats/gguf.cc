#include "formats/gguf.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <type_traits>

#include "base/files.h"
#include "formats/gguf_header.h"
#include "formats/safetensors_header.h"

namespace taipan {
namespace {

// By type number.
constexpr const char* kTypeNames[] = {"uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                      "boolean", "string", "array",  "uint64", "int64",  "float64"};
static_assert(std::size(kTypeNames) == std::variant_size_v<GgufValue>);

template <class T>
constexpr bool kIsInt = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <class T>
constexpr bool kIsNumber = kIsInt<T> || std::is_floating_point_v<T>;

std::string ArrayOf(size_t count, const char* type) { return fmt::format("an array of {} of type {}", count, type); }

}  // namespace

std::string DescribeGgufValue(const GgufValue& value) {
  const char* type = kTypeNames[value.index()];
  return std::visit(
      [&](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, GgufArray>) {
          const char* element = kTypeNames[v.elements.index()];
          return std::visit(
              [&](const auto& elements) -> std::string {
                if constexpr (std::is_same_v<std::decay_t<decltype(elements)>, std::monostate>) {
                  return ArrayOf(0, element);
                } else {
                  return ArrayOf(elements.size(), element);
                }
              },
              v.elements);
        } else if constexpr (std::is_same_v<T, std::string>) {
          return "the string " + QuoteName(v);
        } else {
          return fmt::format("the {} {}", type, v);
        }
      },
      value);
}

bool HasGgufName(const std::string& path) {
  constexpr std::string_view kEnd = ".gguf";
  const std::string_view end = std::string_view(path).substr(path.size() - std::min(path.size(), kEnd.size()));
  return std::equal(end.begin(), end.end(), kEnd.begin(), kEnd.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; });
}

bool IsGgufFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  if (HasGgufName(path)) return true;
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == "GGUF";
}

GgufFile::GgufFile(const std::string& path) : path_(path), mapping_(std::make_shared<MappedFile>(path)) {
  Parse(mapping_->data(), mapping_->size());
}

GgufFile::GgufFile(const void* bytes, int64_t size, const std::string& name) : path_(name) { Parse(bytes, size); }

GgufFile::~GgufFile() = default;
GgufFile::GgufFile(GgufFile&&) noexcept = default;

void GgufFile::Parse(const void* bytes, int64_t size) {
  const char* p = static_cast<const char*>(bytes);
  GgufHeader header = ParseGgufHeader({p, static_cast<size_t>(size)}, path_);
  version_ = header.version;
  metadata_ = std::move(header.metadata);
  for (GgufHeaderTensor& t : header.tensors) {
    tensors_[t.name] = {t.type, std::move(t.shape), p + t.begin, t.bytes};
  }
}

void GgufFile::RefuseValue(const std::string& key, const std::string& expected, const std::string& found) const {
  throw UserError({path_, "bad value of the metadata key " + QuoteName(key), expected, found});
}

const GgufValue& GgufFile::Value(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found != metadata_.end()) return found->second;
  std::vector<std::string> keys;
  for (const auto& [other, value] : metadata_) keys.push_back(other);
  const std::string nearest = NearestName(key, keys);
  throw UserError({.where = path_,
                   .problem = "the metadata key " + QuoteName(key) + " is missing",
                   .hint = nearest.empty() ? "" : "the nearest key in the file is " + QuoteName(nearest)});
}

const std::string& GgufFile::GetString(const std::string& key) const {
  const GgufValue& value = Value(key);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  RefuseValue(key, "a string", DescribeGgufValue(value));
}

std::string GgufFile::GetString(const std::string& key, const std::string& otherwise) const {
  return HasKey(key) ? GetString(key) : otherwise;
}

int64_t GgufFile::GetInt(const std::string& key, std::optional<int64_t> otherwise) const {
  if (otherwise && !HasKey(key)) return *otherwise;
  const GgufValue& value = Value(key);
  return std::visit(
      [&](const auto& v) -> int64_t {
        if constexpr (kIsInt<std::decay_t<decltype(v)>>) {
          if (std::in_range<int64_t>(v)) return static_cast<int64_t>(v);
        }
        RefuseValue(key, "a whole number below 2^63", DescribeGgufValue(value));
      },
      value);
}

double GgufFile::GetFloat(const std::string& key, std::optional<double> otherwise) const {
  if (otherwise && !HasKey(key)) return *otherwise;
  const GgufValue& value = Value(key);
  return std::visit(
      [&](const auto& v) -> double {
        if constexpr (kIsNumber<std::decay_t<decltype(v)>>) return static_cast<double>(v);
        RefuseValue(key, "a number", DescribeGgufValue(value));
      },
      value);
}

bool GgufFile::GetBool(const std::string& key, std::optional<bool> otherwise) const {
  if (otherwise && !HasKey(key)) return *otherwise;
  const GgufValue& value = Value(key);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  RefuseValue(key, "a boolean", DescribeGgufValue(value));
}

const std::vector<std::string>& GgufFile::GetStrings(const std::string& key) const {
  const GgufValue& value = Value(key);
  if (const auto* array = std::get_if<GgufArray>(&value)) {
    if (const auto* strings = std::get_if<std::vector<std::string>>(&array->elements)) return *strings;
  }
  RefuseValue(key, "an array of strings", DescribeGgufValue(value));
}

std::vector<int64_t> GgufFile::GetInts(const std::string& key) const {
  const GgufValue& value = Value(key);
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) RefuseValue(key, "an array of whole numbers", DescribeGgufValue(value));
  return std::visit(
      [&](const auto& elements) -> std::vector<int64_t> {
        using Elements = std::decay_t<decltype(elements)>;
        if constexpr (!std::is_same_v<Elements, std::monostate>) {
          if constexpr (kIsInt<typename Elements::value_type>) {
            std::vector<int64_t> ints;
            for (const auto element : elements) {
              if (!std::in_range<int64_t>(element)) RefuseValue(key, "numbers below 2^63", std::to_string(element));
              ints.push_back(static_cast<int64_t>(element));
            }
            return ints;
          }
        }
        RefuseValue(key, "an array of whole numbers", DescribeGgufValue(value));
      },
      array->elements);
}

std::vector<float> GgufFile::GetFloats(const std::string& key) const {
  const GgufValue& value = Value(key);
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) RefuseValue(key, "an array of numbers", DescribeGgufValue(value));
  return std::visit(
      [&](const auto& elements) -> std::vector<float> {
        using Elements = std::decay_t<decltype(elements)>;
        if constexpr (!std::is_same_v<Elements, std::monostate>) {
          if constexpr (kIsNumber<typename Elements::value_type>) return {elements.begin(), elements.end()};
        }
        RefuseValue(key, "an array of numbers", DescribeGgufValue(value));
      },
      array->elements);
}

const GgufTensor& GgufFile::At(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) RefuseMissingTensor(path_, name, Names());
  return found->second;
}

std::vector<std::string> GgufFile::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

StoredTensor GgufFile::Stored(const std::string& name) const {
  const GgufTensor& t = At(name);
  StoredTensor stored{.file = path_, .name = name, .type = NameOf(t.type), .shape = t.shape, .leading_ones = false};
  stored.data = t.data;
  stored.bytes = t.bytes;
  stored.block = BlockElements(t.type);
  stored.block_bytes = BlockBytes(t.type);
  if (t.type == GgmlType::kF32) stored.dtype = DType::kF32;
  if (t.type == GgmlType::kBF16) stored.dtype = DType::kBF16;
  if (stored.block > 1) stored.quantized = t.type;
  stored.decode = [type = t.type](const void* from, int64_t n, float* to) { Dequantize(type, from, n, to); };
  stored.file_mapped = mapping_;
  return stored;
}

}  // namespace taipan
