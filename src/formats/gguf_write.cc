// Writes GGUF version 3.

#include <set>
#include <type_traits>

#include "base/files.h"
#include "formats/ggml_quantize.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"
#include "formats/safetensors_header.h"
#include "formats/write_values.h"

namespace taipan {
namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlign = 32;
const char* const kAlignKey = "general.alignment";

template <class T>
void Append(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    Append(out, static_cast<uint64_t>(value.size()));
    out += value;
  } else if constexpr (std::is_same_v<T, bool>) {
    out += value ? '\1' : '\0';
  } else {
    static_assert(std::is_arithmetic_v<T>);
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

void AppendArray(std::string& out, const GgufArray& array) {
  Append(out, static_cast<uint32_t>(array.elements.index()));
  std::visit(
      [&](const auto& elements) {
        using Elements = std::decay_t<decltype(elements)>;
        if constexpr (std::is_same_v<Elements, std::monostate>) {
          CHECK(false);
        } else {
          Append(out, static_cast<uint64_t>(elements.size()));
          for (const typename Elements::value_type& element : elements) Append(out, element);
        }
      },
      array.elements);
}

void AppendMetadata(std::string& out, const GgufMetadata& metadata) {
  for (const auto& [key, value] : metadata) {
    Append(out, key);
    Append(out, static_cast<uint32_t>(value.index()));
    std::visit(
        [&](const auto& v) {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, GgufArray>) {
            AppendArray(out, v);
          } else {
            Append(out, v);
          }
        },
        value);
  }
}

// Bytes of the tensor in the file, after a check that it can be written at all.
int64_t BytesOf(const std::string& path, const GgufItem& item) {
  CHECK(CanQuantize(item.type));
  CHECK_LE(static_cast<int>(item.shape.size()), kGgufMostDims);
  if (item.name.size() > kGgufMostNameBytes) {
    throw UserError({path, "the tensor name " + QuoteName(item.name) + " is too long for GGUF",
                     fmt::format("at most {} bytes", kGgufMostNameBytes), std::to_string(item.name.size())});
  }
  int64_t elements = 1;
  for (const int64_t size : item.shape) {
    CHECK_GE(size, 0);
    elements *= size;
  }
  const int64_t block = BlockElements(item.type), row = item.shape.empty() ? 1 : item.shape.back();
  if (row % block != 0) {
    throw UserError({path, fmt::format("tensor {} cannot be stored as {}", QuoteName(item.name), NameOf(item.type)),
                     fmt::format("rows of a multiple of {} values", block), std::to_string(row),
                     "F16, BF16 and F32 take rows of any length"});
  }
  return elements / block * BlockBytes(item.type);
}

void Pad(AtomicFile& file, int64_t written) {
  static constexpr char kZeros[kAlign] = {};
  file.Write(kZeros, RoundUp(written, kAlign) - written);
}

}  // namespace

void WriteGguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufItem>& items) {
  CHECK(metadata.count(kAlignKey) == 0);  // ours is the default, which goes without saying
  std::string header(kGgufMagic);
  Append(header, kVersion);
  Append(header, static_cast<uint64_t>(items.size()));
  Append(header, static_cast<uint64_t>(metadata.size()));
  AppendMetadata(header, metadata);
  std::set<std::string> names;
  std::vector<int64_t> sizes;
  int64_t offset = 0;
  for (const GgufItem& item : items) {
    CHECK(names.insert(item.name).second);
    sizes.push_back(BytesOf(path, item));
    Append(header, item.name);
    Append(header, static_cast<uint32_t>(item.shape.size()));
    for (size_t i = item.shape.size(); i-- > 0;) Append(header, static_cast<uint64_t>(item.shape[i]));
    Append(header, static_cast<uint32_t>(item.type));
    Append(header, static_cast<uint64_t>(offset));
    offset += RoundUp(sizes.back(), kAlign);
  }

  AtomicFile file(path);
  file.Write(header);
  Pad(file, static_cast<int64_t>(header.size()));
  for (size_t i = 0; i < items.size(); ++i) {
    const Tensor values = items[i].values();
    CHECK(values.dtype() == DType::kU8 ? values.bytes() == sizes[i] : values.shape() == items[i].shape);
    WriteValues(file, path, items[i].name, values, items[i].type);
    Pad(file, sizes[i]);
  }
  file.Commit();
}

}  // namespace taipan
