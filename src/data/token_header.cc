#include "data/token_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"

namespace taipan {
namespace {

constexpr int64_t kLlmcHeader = 1024;                       // bytes
constexpr uint64_t kLlmc16 = 20240520, kLlmc32 = 20240801;  // magic numbers of ids of GPT-2 and of Llama 3

// The text after "'key':" in the dictionary of a NumPy header, blanks skipped; "" where the key is missing.
std::string_view ValueOf(std::string_view header, const std::string& key) {
  const size_t at = header.find("'" + key + "':");
  if (at == std::string_view::npos) return {};
  std::string_view value = header.substr(at + key.size() + 3);
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

// "(6000,)" as 6000; no value for another number of dimensions.
std::optional<int64_t> OneDimension(std::string_view shape) {
  int64_t count = 0;
  if (!shape.starts_with('(')) return {};
  const char* const end = shape.data() + shape.size();
  const auto number = std::from_chars(shape.data() + 1, end, count);
  if (number.ec != std::errc() || count < 0) return {};
  const std::string_view rest(number.ptr, static_cast<size_t>(end - number.ptr));
  return rest.starts_with(",)") || rest.starts_with(", )") ? std::optional(count) : std::nullopt;
}

void CheckSize(const std::string& path, const std::string& kind, int64_t count, const DataFormat& format,
               int64_t size) {
  if (count <= (size - format.offset) / format.width && format.offset + count * format.width == size) return;
  throw UserError({path,
                   fmt::format("the {} header does not fit the file: it is cut, or its writing was not finished", kind),
                   fmt::format("{} bytes before {} ids of {} bits", format.offset, count, format.width * 8),
                   fmt::format("{} bytes", size)});
}

}  // namespace

bool IsNumpyArray(std::string_view head) { return head.size() >= 12 && head.starts_with("\x93NUMPY"); }

DataFormat ReadNumpyHeader(const std::string& path, std::string_view head, int64_t size) {
  const bool first_version = head[6] == 1;
  const int64_t text_begin = first_version ? 10 : 12;
  const auto text_bytes = static_cast<int64_t>(LoadLittle(head.data() + 8, first_version ? 2 : 4));
  if (head[6] < 1 || head[6] > 3 || text_begin + text_bytes > static_cast<int64_t>(head.size())) {
    throw UserError(path, "a NumPy array with a damaged header");
  }
  const std::string_view text = head.substr(static_cast<size_t>(text_begin), static_cast<size_t>(text_bytes));
  const std::string_view shape = ValueOf(text, "shape");
  std::string_view type = ValueOf(text, "descr");
  type = type.starts_with('\'') ? type.substr(1, type.find('\'', 1) - 1) : type.substr(0, type.find(']'));
  const std::optional<int64_t> count = OneDimension(shape);
  const bool little = type.starts_with('<') || (type.starts_with('|') && type.ends_with('1'));
  const bool integers = type.size() == 3 && (type[1] == 'u' || type[1] == 'i') &&
                        std::string_view("1248").find(type[2]) != std::string_view::npos;
  if (!count || !little || !integers) {
    throw UserError({path, "a NumPy array that holds no token ids",
                     "one dimension of little-endian integers ('<u2', '<u4', '<i4', '<i8')",
                     fmt::format("'{}' of shape {}", type, shape.substr(0, shape.find(')') + 1)),
                     "array.reshape(-1).astype('<u4') makes one"});
  }
  DataFormat format{.kind = DataKind::kTokens, .name = "NumPy array", .offset = text_begin + text_bytes};
  format.width = type[2] - '0';
  format.is_signed = type[1] == 'i';
  CheckSize(path, "NumPy", *count, format, size);
  return format;
}

bool IsLlmcShard(std::string_view head) {
  if (static_cast<int64_t>(head.size()) < kLlmcHeader) return false;
  const uint64_t magic = LoadLittle(head.data(), 4), version = LoadLittle(head.data() + 4, 4);
  return (magic == kLlmc16 || magic == kLlmc32) && version < 100;
}

DataFormat ReadLlmcHeader(const std::string& path, std::string_view head, int64_t size) {
  DataFormat format{.kind = DataKind::kTokens, .name = "llm.c tokens", .offset = kLlmcHeader};
  format.width = LoadLittle(head.data(), 4) == kLlmc16 ? 2 : 4;
  CheckSize(path, "llm.c", static_cast<int64_t>(LoadLittle(head.data() + 8, 4)), format, size);
  return format;
}

}  // namespace taipan
