#include "formats/safetensors_header.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

namespace taipan {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kF16, DType::kI64, DType::kI32,
                             DType::kU32, DType::kI16, DType::kU16,  DType::kI8,  DType::kU8,  DType::kBool};

std::string KnownDTypes() {
  std::string all;
  for (DType dtype : kDTypes) all += (all.empty() ? "" : ", ") + std::string(NameOf(dtype));
  return all;
}

// Accepts exactly {"__metadata__": {string: string}, NAME: {"dtype": ..., "shape": [...], "data_offsets": [b, e]}}. It
// sees the tokens as they come, so it notices a name that stands twice and holds no tree that a hostile nesting could
// make deep.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(SafetensorsHeader& header, const std::string& path) : header_(header), path_(path) {}

  bool null() override { Unexpected("null"); }
  bool boolean(bool value) override { Unexpected(value ? "true" : "false"); }
  bool number_float(double, const std::string& text) override { Unexpected(text.substr(0, 40)); }
  bool binary(binary_t&) override { Unexpected("binary data"); }
  bool number_integer(int64_t value) override {
    if (value < 0) Unexpected(std::to_string(value));
    return Number(value);
  }
  bool number_unsigned(uint64_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) Unexpected(std::to_string(value));
    return Number(static_cast<int64_t>(value));
  }

  bool string(std::string& value) override {
    if (place_ == kMetadataValue) {
      header_.metadata.emplace(key_, value);
      place_ = kMetadata;
    } else if (place_ == kDTypeValue) {
      entry_.dtype = ParseDType(value);
      place_ = kTensor;
    } else {
      Unexpected("the string " + QuoteName(value));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == kStart) {
      place_ = kTop;
    } else if (place_ == kTensorValue) {
      place_ = kTensor;
    } else if (place_ == kMetadataObject) {
      place_ = kMetadata;
    } else {
      Unexpected("an object");
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == kTop) {
      if (!names_.insert(name).second) Refuse("the name " + QuoteName(name) + " stands twice in the header");
      entry_ = {};
      entry_.name = name;
      seen_.clear();
      place_ = name == "__metadata__" ? kMetadataObject : kTensorValue;
    } else if (place_ == kMetadata) {
      if (header_.metadata.count(name) != 0) Refuse("the key " + QuoteName(name) + " stands twice in __metadata__");
      key_ = name;
      place_ = kMetadataValue;
    } else {
      TensorKey(name);
    }
    return true;
  }

  bool end_object() override {
    if (place_ == kTensor) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        if (seen_.count(needed) == 0) Refuse(Where() + " has no \"" + needed + "\"");
      }
      header_.entries.push_back(std::move(entry_));
    }
    place_ = place_ == kTop ? kEnd : kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == kShapeValue) {
      place_ = kShape;
    } else if (place_ == kOffsetsValue) {
      place_ = kOffsets;
    } else {
      Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == kOffsets) {
      if (offsets_.size() != 2) {
        Refuse(Where() + " has bad data_offsets", "2 numbers", std::to_string(offsets_.size()));
      }
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
    }
    place_ = kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    Refuse(fmt::format("the header is not valid JSON at its byte {}", position));
  }

 private:
  // Where the reader stands: inside an object or array, or (...Value, ...Object) right before the value of a key.
  enum Place {
    kStart,
    kTop,
    kEnd,
    kMetadataObject,
    kMetadata,
    kMetadataValue,
    kTensorValue,
    kTensor,
    kDTypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets
  };

  std::string Where() const { return "tensor " + QuoteName(entry_.name); }

  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected = "",
                           const std::string& found = "") {
    throw UserError({path_, problem, expected, found});
  }

  [[noreturn]] void Unexpected(const std::string& found) {
    switch (place_) {
      case kStart:
      case kTop:
      case kEnd:
        Refuse("bad header", "a JSON object", found);
      case kMetadataObject:
        Refuse("bad __metadata__", "an object", found);
      case kMetadata:
      case kMetadataValue:
        Refuse("bad value of " + QuoteName(key_) + " in __metadata__", "a string", found);
      case kTensorValue:
      case kTensor:
        Refuse(Where() + " has a bad description", "an object", found);
      case kDTypeValue:
        Refuse(Where() + " has a bad dtype", "a string", found);
      case kShapeValue:
        Refuse(Where() + " has a bad shape", "an array", found);
      case kShape:
        Refuse(Where() + " has a bad shape", "sizes from 0 to 2^63 - 1", found);
      case kOffsetsValue:
        Refuse(Where() + " has bad data_offsets", "an array of 2 numbers", found);
      case kOffsets:
        Refuse(Where() + " has bad data_offsets", "offsets from 0 to 2^63 - 1", found);
    }
    CHECK(false);
    std::abort();
  }

  bool Number(int64_t value) {
    if (place_ == kShape) {
      entry_.shape.push_back(value);
    } else if (place_ == kOffsets) {
      offsets_.push_back(value);
    } else {
      Unexpected(std::to_string(value));
    }
    return true;
  }

  void TensorKey(const std::string& name) {
    if (name == "dtype") {
      place_ = kDTypeValue;
    } else if (name == "shape") {
      place_ = kShapeValue;
    } else if (name == "data_offsets") {
      place_ = kOffsetsValue;
      offsets_.clear();
    } else {
      Refuse(Where() + " has an unknown key", "dtype, shape, data_offsets", QuoteName(name));
    }
    if (!seen_.insert(name).second) Refuse(Where() + " has the key " + QuoteName(name) + " twice");
  }

  DType ParseDType(const std::string& name) {
    for (DType dtype : kDTypes) {
      if (name == NameOf(dtype)) return dtype;
    }
    Refuse(Where() + " has an unknown dtype", "one of " + KnownDTypes(), QuoteName(name));
  }

  SafetensorsHeader& header_;
  const std::string& path_;
  Place place_ = kStart;
  std::set<std::string> names_;  // of the top level
  std::set<std::string> seen_;   // keys of the tensor being read
  std::string key_;              // of the metadata being read
  std::vector<int64_t> offsets_;
  SafetensorsHeaderEntry entry_;
};

// Bytes of the shape; none where any product of sizes without the zeros passes 2^63, so that no order of
// multiplication overflows later.
std::optional<int64_t> BytesOfShape(const std::vector<int64_t>& shape, DType dtype) {
  int64_t product = SizeOf(dtype);
  bool zero = false;
  for (int64_t size : shape) {
    zero |= size == 0;
    if (size != 0 && __builtin_mul_overflow(product, size, &product)) return std::nullopt;
  }
  return zero ? 0 : product;
}

void CheckSizes(const SafetensorsHeaderEntry& e, int64_t data_bytes, const std::string& path) {
  const std::string where = "tensor " + QuoteName(e.name);
  const std::string range = fmt::format("[{}, {}]", e.begin, e.end);
  if (e.begin > e.end || e.end > data_bytes) {
    throw UserError({path, where + " has offsets out of range", fmt::format("begin <= end <= {}", data_bytes), range});
  }
  const std::optional<int64_t> bytes = BytesOfShape(e.shape, e.dtype);
  if (!bytes) throw UserError({path, where + " is too large", "less than 2^63 bytes", ShortShape(e.shape)});
  if (*bytes != e.end - e.begin) {
    throw UserError({path, where + " has offsets that do not match its shape",
                     fmt::format("{} bytes for {} {}", *bytes, NameOf(e.dtype), ShortShape(e.shape)),
                     fmt::format("{} bytes at {}", e.end - e.begin, range)});
  }
}

// Every byte of the data belongs to exactly one tensor.
void CheckCoverage(SafetensorsHeader& header, int64_t data_bytes, const std::string& path) {
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t covered = 0;
  const std::string* last = nullptr;
  for (const SafetensorsHeaderEntry& e : header.entries) {
    if (e.begin != covered) {
      std::string problem = "tensor " + QuoteName(e.name);
      problem += e.begin > covered ? " leaves a gap before it" : " overlaps tensor " + QuoteName(*last);
      throw UserError({path, problem, fmt::format("begin at byte {}", covered), std::to_string(e.begin)});
    }
    covered = e.end;
    last = &e.name;
  }
  if (covered != data_bytes) {
    throw UserError(
        {path, "bytes after the last tensor", fmt::format("{} bytes of data", covered), std::to_string(data_bytes)});
  }
}

}  // namespace

std::string QuoteName(std::string_view name) {
  constexpr size_t kMost = 120;
  const std::string shown(name.substr(0, kMost));
  std::string quoted = nlohmann::json(shown).dump(-1, ' ', true, nlohmann::json::error_handler_t::ignore);
  if (name.size() > kMost) quoted += fmt::format("... ({} bytes)", name.size());
  return quoted;
}

std::string ShortShape(const std::vector<int64_t>& shape) {
  constexpr size_t kMost = 8;
  if (shape.size() <= kMost) return ShapeString(shape);
  return fmt::format("a shape of {} dimensions", shape.size());
}

SafetensorsHeader ParseSafetensorsHeader(std::string_view json, int64_t data_bytes, const std::string& path) {
  if (json.empty() || json[0] != '{') {
    throw UserError({path, "not a safetensors file", "a header that starts with '{'",
                     json.empty() ? "an empty header" : fmt::format("byte 0x{:02x}", static_cast<uint8_t>(json[0]))});
  }
  // The parser takes a NUL for the end of its input and would pass over what follows.
  if (const size_t nul = json.find('\0'); nul != json.npos) {
    throw UserError(path, fmt::format("the header is not valid JSON at its byte {}", nul));
  }
  SafetensorsHeader header;
  HeaderReader reader(header, path);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  for (const SafetensorsHeaderEntry& e : header.entries) CheckSizes(e, data_bytes, path);
  CheckCoverage(header, data_bytes, path);
  return header;
}

}  // namespace taipan
