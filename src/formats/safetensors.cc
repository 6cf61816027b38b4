#include "formats/safetensors.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "formats/safetensors_header.h"
#include "formats/write_values.h"
#include "tensor/f16.h"

namespace taipan {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers in safetensors files are little-endian");

constexpr int64_t kLengthBytes = 8;                // before the header
constexpr int64_t kMostHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr int64_t kDataAlign = 64;                 // of the first tensor in a file that we write
constexpr std::string_view kQuantizedKey = "quantized.";

// n elements of type Stored, which may stand at any address.
template <class Stored>
void WidenAll(const void* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) {
    Stored element;
    std::memcpy(&element, static_cast<const char*>(from) + i * static_cast<int64_t>(sizeof element), sizeof element);
    if constexpr (std::is_same_v<Stored, double>) {
      to[i] = static_cast<float>(element);
    } else {
      to[i] = ToFloat(element);
    }
  }
}

DecodeElements DecoderOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return WidenAll<float>;
    case DType::kF64:
      return WidenAll<double>;
    case DType::kBF16:
      return WidenAll<BF16>;
    case DType::kF16:
      return WidenAll<F16>;
    default:
      return nullptr;
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), mapping_(std::make_shared<MappedFile>(path)) {
  Parse(mapping_->data(), mapping_->size());
}

SafetensorsFile::SafetensorsFile(const void* bytes, int64_t size, const std::string& name) : path_(name) {
  Parse(bytes, size);
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

void SafetensorsFile::Parse(const void* bytes, int64_t size) {
  const char* p = static_cast<const char*>(bytes);
  if (size < kLengthBytes) {
    throw UserError({path_, "truncated or not a safetensors file", "at least 8 bytes", std::to_string(size)});
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, p, sizeof header_bytes);
  if (header_bytes > static_cast<uint64_t>(size - kLengthBytes)) {
    constexpr std::string_view kPointer = "version https://git-lfs";
    const bool pointer = std::string_view(p, static_cast<size_t>(size)).substr(0, kPointer.size()) == kPointer;
    throw UserError({path_, "truncated or not a safetensors file: its header is longer than the file",
                     fmt::format("at most {} bytes of header", size - kLengthBytes), std::to_string(header_bytes),
                     pointer ? "this is a Git LFS pointer; fetch the file itself with git lfs pull" : ""});
  }
  if (header_bytes > static_cast<uint64_t>(kMostHeaderBytes)) {
    throw UserError({path_, "the header is too long", fmt::format("at most {} bytes", kMostHeaderBytes),
                     std::to_string(header_bytes)});
  }
  const int64_t data_begin = kLengthBytes + static_cast<int64_t>(header_bytes);
  SafetensorsHeader header =
      ParseSafetensorsHeader({p + kLengthBytes, static_cast<size_t>(header_bytes)}, size - data_begin, path_);
  metadata_ = std::move(header.metadata);
  for (SafetensorsHeaderEntry& e : header.entries) {
    entries_[e.name] = {e.dtype, std::move(e.shape), p + data_begin + e.begin, e.end - e.begin};
  }
  ReadQuantizedTypes();
}

void SafetensorsFile::ReadQuantizedTypes() {
  for (const auto& [key, value] : metadata_) {
    if (!key.starts_with(kQuantizedKey)) continue;
    const std::string name = key.substr(kQuantizedKey.size());
    const auto refuse = [&](const std::string& expected, const std::string& found) {
      throw UserError(
          {path_, "tensor " + QuoteName(name) + " has a bad quantized type in __metadata__", expected, found});
    };
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) refuse("a tensor of that name", "none");
    const std::optional<GgmlType> type = GgmlTypeNamed(value);
    if (!type || BlockElements(*type) == 1)
      refuse("one of " + ReadableGgmlTypes() + " that has blocks", QuoteName(value));
    const SafetensorsEntry& e = entry->second;
    const int64_t block = BlockBytes(*type);
    if (e.dtype != DType::kU8 || e.shape.size() != 2 || e.shape[1] % block != 0) {
      refuse(fmt::format("bytes (U8) in rows of a multiple of {}", block),
             fmt::format("{} {}", NameOf(e.dtype), ShortShape(e.shape)));
    }
    quantized_[name] = *type;
  }
}

const SafetensorsEntry& SafetensorsFile::At(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) RefuseMissingTensor(path_, name, Names());
  return it->second;
}

std::vector<std::string> SafetensorsFile::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

StoredTensor SafetensorsFile::Stored(const std::string& name) const {
  const SafetensorsEntry& e = At(name);
  StoredTensor stored{.file = path_, .name = name, .type = NameOf(e.dtype), .shape = e.shape};
  stored.data = e.data;
  stored.bytes = e.bytes;
  stored.block_bytes = SizeOf(e.dtype);
  if (e.dtype == DType::kF32 || e.dtype == DType::kBF16) stored.dtype = e.dtype;
  stored.decode = DecoderOf(e.dtype);
  stored.file_mapped = mapping_;
  if (const auto quantized = quantized_.find(name); quantized != quantized_.end()) {
    const GgmlType type = quantized->second;
    stored.type = NameOf(type);
    stored.block = BlockElements(type);
    stored.block_bytes = BlockBytes(type);
    stored.shape[1] = e.shape[1] / stored.block_bytes * stored.block;
    stored.quantized = type;
    stored.decode = [type](const void* from, int64_t n, float* to) { Dequantize(type, from, n, to); };
  }
  return stored;
}

Tensor SafetensorsFile::Read(const std::string& name) const {
  const SafetensorsEntry& e = At(name);
  Tensor t = Tensor::Unset(e.shape, e.dtype);
  if (e.bytes > 0) std::memcpy(t.data(), e.data, static_cast<size_t>(e.bytes));
  if (mapping_) mapping_->CheckUnchanged();
  return t;
}

namespace {

// As the file has it.
std::vector<int64_t> StoredShape(const SafetensorsItem& item) {
  if (!item.quantized) return item.shape;
  CHECK(item.shape.size() == 2 && item.values);
  const int64_t block = BlockElements(*item.quantized);
  CHECK_EQ(item.shape[1] % block, 0);
  return {item.shape[0], item.shape[1] / block * BlockBytes(*item.quantized)};
}

DType StoredDType(const SafetensorsItem& item) { return item.quantized ? DType::kU8 : item.dtype; }

}  // namespace

int64_t BytesOf(const SafetensorsItem& item) {
  int64_t bytes = SizeOf(StoredDType(item));
  for (int64_t n : StoredShape(item)) {
    CHECK_GE(n, 0);
    bytes *= n;
  }
  CHECK(bytes == 0 || item.data != nullptr || item.values);
  return bytes;
}

namespace {

void WriteItem(AtomicFile& file, const std::string& path, const SafetensorsItem& item) {
  if (item.data != nullptr || !item.values) return file.Write(item.data, BytesOf(item));
  CHECK(item.quantized || item.dtype == DType::kF32 || item.dtype == DType::kF16 || item.dtype == DType::kBF16);
  const Tensor values = item.values();
  CHECK(values.shape() == (values.dtype() == DType::kU8 ? StoredShape(item) : item.shape));
  WriteValues(file, path, item.name, values,
              item.quantized              ? *item.quantized
              : item.dtype == DType::kF32 ? GgmlType::kF32
              : item.dtype == DType::kF16 ? GgmlType::kF16
                                          : GgmlType::kBF16);
}

}  // namespace

void WriteSafetensors(const std::string& path, const std::vector<SafetensorsItem>& items,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  std::map<std::string, std::string> all = metadata;
  for (const SafetensorsItem& item : items) {
    if (item.quantized) all[std::string(kQuantizedKey) + item.name] = NameOf(*item.quantized);
  }
  if (!all.empty()) json["__metadata__"] = all;
  std::set<std::string> names{"__metadata__"};
  int64_t offset = 0;
  for (const SafetensorsItem& item : items) {
    CHECK(names.insert(item.name).second);
    const int64_t bytes = BytesOf(item);
    json[item.name] = {
        {"dtype", NameOf(StoredDType(item))}, {"shape", StoredShape(item)}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string header = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  while ((kLengthBytes + static_cast<int64_t>(header.size())) % kDataAlign != 0) header += ' ';
  CHECK_LE(static_cast<int64_t>(header.size()), kMostHeaderBytes);

  AtomicFile file(path);
  const uint64_t length = header.size();
  file.Write(&length, sizeof length);
  file.Write(header);
  for (const SafetensorsItem& item : items) WriteItem(file, path, item);
  file.Commit();
}

}  // namespace taipan
