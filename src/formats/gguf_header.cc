#include "formats/gguf_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <type_traits>

#include "formats/safetensors_header.h"

namespace taipan {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers in the GGUF files that we read are little-endian");

constexpr int64_t kDefaultAlign = 32;
constexpr int64_t kMostAlign = int64_t{1} << 20;
// The fewest bytes of an entry: key length, type and value; name length, dimensions, type and offset.
constexpr int64_t kLeastKeyBytes = 8 + 4 + 1, kLeastTensorBytes = 8 + 4 + 4 + 8;

template <class T>
constexpr int64_t kLeastBytes = std::is_same_v<T, std::string> ? 8
                                : std::is_same_v<T, bool>      ? 1
                                                               : sizeof(T);

// Calls f with a value-less tag of the variant's alternative `index`; false where there is none.
template <class Variant, class F, size_t kIndex = 0>
bool WithAlternative(uint32_t index, F&& f) {
  if constexpr (kIndex == std::variant_size_v<Variant>) {
    return false;
  } else {
    if (index != kIndex) return WithAlternative<Variant, F, kIndex + 1>(index, std::forward<F>(f));
    f(std::type_identity<std::variant_alternative_t<kIndex, Variant>>());
    return true;
  }
}

class HeaderParser {
 public:
  HeaderParser(std::string_view file, const std::string& path) : file_(file), path_(path) {}

  GgufHeader Parse() {
    CheckMagic();
    at_ = kGgufMagic.size();
    header_.version = ReadVersion();
    where_ = "the counts";
    const int64_t tensors = ReadCount("tensors", kLeastTensorBytes, 8);
    const int64_t keys = ReadCount("metadata keys", kLeastKeyBytes, 0);
    for (int64_t i = 0; i < keys; ++i) ReadKey(i, keys);
    CheckSplit();
    const int64_t align = Alignment();
    for (int64_t i = 0; i < tensors; ++i) ReadTensor(i, tensors);
    PlaceTensors(align);
    return std::move(header_);
  }

 private:
  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected = "", const std::string& found = "",
                           const std::string& hint = "") const {
    throw UserError({path_, problem, expected, found, hint});
  }

  int64_t Remaining() const { return static_cast<int64_t>(file_.size() - at_); }

  const char* Take(int64_t bytes) {
    if (bytes > Remaining()) {
      Refuse(fmt::format("truncated in {}", where_), fmt::format("{} bytes at byte {}", bytes, at_),
             fmt::format("{} bytes to the end", Remaining()));
    }
    const char* p = file_.data() + at_;
    at_ += static_cast<size_t>(bytes);
    return p;
  }

  template <class T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof value), sizeof value);
    return value;
  }

  std::string_view Text() {
    const uint64_t length = Number<uint64_t>();
    if (length > static_cast<uint64_t>(Remaining())) {
      Refuse(fmt::format("a string in {} passes the end of the file", where_),
             fmt::format("at most {} bytes", Remaining()), std::to_string(length));
    }
    return {Take(static_cast<int64_t>(length)), static_cast<size_t>(length)};
  }

  void CheckMagic() const {
    if (file_.substr(0, kGgufMagic.size()) == kGgufMagic) return;
    constexpr std::string_view kPointer = "version https://git-lfs";
    const bool pointer = file_.substr(0, kPointer.size()) == kPointer;
    Refuse("not a GGUF file", "a file that starts with \"GGUF\"",
           file_.empty() ? "an empty file" : QuoteName(file_.substr(0, kGgufMagic.size())),
           pointer ? "this is a Git LFS pointer; fetch the file itself with git lfs pull" : "");
  }

  int ReadVersion() {
    where_ = "the version";
    const uint32_t version = Number<uint32_t>();
    if (version == 2 || version == 3) return static_cast<int>(version);
    if (version != 0 && (version & 0xffff) == 0) {
      Refuse("the file is big-endian", "little-endian", fmt::format("version bytes of {:#010x}", version),
             "convert it again on, or for, a little-endian machine");
    }
    Refuse("unknown GGUF version", "2 or 3", std::to_string(version));
  }

  // So many entries of at least `least` bytes must fit into what remains after `between` bytes.
  int64_t ReadCount(const char* what, int64_t least, int64_t between) {
    const uint64_t count = Number<uint64_t>();
    const int64_t most = std::max<int64_t>(Remaining() - between, 0) / least;
    if (count > static_cast<uint64_t>(most)) {
      Refuse(fmt::format("more {} than fit into the file", what), fmt::format("at most {}", most),
             std::to_string(count));
    }
    return static_cast<int64_t>(count);
  }

  void ReadKey(int64_t index, int64_t count) {
    where_ = fmt::format("metadata key {} of {}", index + 1, count);
    const std::string key(Text());
    where_ = "the value of " + QuoteName(key);
    GgufValue value;
    const uint32_t type = Number<uint32_t>();
    const bool known = WithAlternative<GgufValue>(type, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (std::is_same_v<T, GgufArray>) {
        value = Array();
      } else {
        value = Scalar<T>();
      }
    });
    if (!known) Refuse(fmt::format("unknown type of {}", where_), "0 to 12", std::to_string(type));
    if (!header_.metadata.emplace(key, std::move(value)).second) {
      Refuse("the metadata key " + QuoteName(key) + " stands twice");
    }
  }

  template <class T>
  T Scalar() {
    if constexpr (std::is_same_v<T, std::string>) {
      return std::string(Text());
    } else if constexpr (std::is_same_v<T, bool>) {
      const uint8_t byte = Number<uint8_t>();
      if (byte > 1) Refuse("bad boolean in " + where_, "0 or 1", std::to_string(byte));
      return byte == 1;
    } else {
      return Number<T>();
    }
  }

  GgufArray Array() {
    GgufArray array;
    const uint32_t type = Number<uint32_t>();
    const uint64_t count = Number<uint64_t>();
    const bool known = WithAlternative<GgufArray::Elements>(type, [&](auto tag) {
      using Elements = typename decltype(tag)::type;
      if constexpr (std::is_same_v<Elements, std::monostate>) {
        Refuse(fmt::format("{} is an array of arrays", where_), "an array of numbers or strings");
      } else {
        using T = typename Elements::value_type;
        if (count > static_cast<uint64_t>(Remaining() / kLeastBytes<T>)) {
          Refuse(fmt::format("the array in {} passes the end of the file", where_),
                 fmt::format("at most {} elements", Remaining() / kLeastBytes<T>), std::to_string(count));
        }
        Elements elements;
        elements.reserve(static_cast<size_t>(count));
        for (uint64_t i = 0; i < count; ++i) elements.push_back(Scalar<T>());
        array.elements = std::move(elements);
      }
    });
    if (!known) Refuse(fmt::format("unknown element type of {}", where_), "0 to 12", std::to_string(type));
    return array;
  }

  // A number that must be a plain count where it is there at all.
  std::optional<uint64_t> CountOf(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    if (found == header_.metadata.end()) return std::nullopt;
    return std::visit(
        [&](const auto& value) -> std::optional<uint64_t> {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
            if (std::cmp_greater_equal(value, 0)) return static_cast<uint64_t>(value);
          }
          Refuse("bad value of " + key, "a whole number", DescribeGgufValue(found->second));
        },
        found->second);
  }

  void CheckSplit() const {
    const uint64_t parts = CountOf("split.count").value_or(1);
    if (parts <= 1) return;
    Refuse("one part of a split model", "a whole model", fmt::format("{} parts", parts),
           "join them with llama.cpp's llama-gguf-split --merge");
  }

  int64_t Alignment() const {
    const uint64_t align = CountOf("general.alignment").value_or(kDefaultAlign);
    if (!std::has_single_bit(align) || align > static_cast<uint64_t>(kMostAlign)) {
      Refuse("bad value of general.alignment", fmt::format("a power of two up to {}", kMostAlign),
             std::to_string(align));
    }
    return static_cast<int64_t>(align);
  }

  void ReadTensor(int64_t index, int64_t count) {
    where_ = fmt::format("entry {} of {} of the tensor table", index + 1, count);
    GgufHeaderTensor tensor;
    tensor.name = Text();
    where_ = "tensor " + QuoteName(tensor.name);
    if (!names_.insert(tensor.name).second) Refuse(where_ + " stands twice in the table");
    const uint32_t dims = Number<uint32_t>();
    if (dims > kGgufMostDims) {
      Refuse(where_ + " has too many dimensions", fmt::format("at most {}", kGgufMostDims), std::to_string(dims));
    }
    for (uint32_t i = 0; i < dims; ++i) {
      const uint64_t size = Number<uint64_t>();
      if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        Refuse(where_ + " has a bad shape", "sizes from 0 to 2^63 - 1", std::to_string(size));
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    const uint32_t type = Number<uint32_t>();
    const std::optional<GgmlType> known = GgmlTypeOf(type);
    if (!known) Refuse(where_ + " has a type that cannot be read", "one of " + ReadableGgmlTypes(), GgmlTypeName(type));
    tensor.type = *known;
    tensor.bytes = BytesOf(tensor);
    const uint64_t offset = Number<uint64_t>();
    if (offset > file_.size()) {
      Refuse(where_ + " starts after the end of the file", fmt::format("an offset up to {}", file_.size()),
             std::to_string(offset));
    }
    tensor.begin = static_cast<int64_t>(offset);  // PlaceTensors adds where the data start
    header_.tensors.push_back(std::move(tensor));
  }

  int64_t BytesOf(const GgufHeaderTensor& tensor) const {
    const int64_t block = BlockElements(tensor.type);
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % block != 0) {
      Refuse(where_ + " has rows that are not whole blocks",
             fmt::format("a multiple of {} for {}", block, NameOf(tensor.type)), std::to_string(row));
    }
    // Zeros are left out, so that no product in another order overflows later.
    int64_t product = BlockBytes(tensor.type);
    bool fits = true, zero = false;
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      const int64_t size = tensor.shape[i];
      zero |= size == 0;
      const int64_t factor = i + 1 == tensor.shape.size() ? size / block : size;
      if (factor != 0) fits &= !__builtin_mul_overflow(product, factor, &product);
    }
    int64_t elements_bytes = product;  // of f32, as which they will be read
    fits &= !__builtin_mul_overflow(product, int64_t{32}, &elements_bytes);
    if (!fits) Refuse(where_ + " is too large", "less than 2^58 bytes", ShortShape(tensor.shape));
    return zero ? 0 : product;
  }

  void PlaceTensors(int64_t align) {
    const auto size = static_cast<int64_t>(file_.size());
    const int64_t data = RoundUp(static_cast<int64_t>(at_), align);
    for (GgufHeaderTensor& t : header_.tensors) {
      const std::string name = "tensor " + QuoteName(t.name);
      if (t.begin % align != 0) {
        Refuse(name + " is not aligned", fmt::format("an offset that is a multiple of {}", align),
               std::to_string(t.begin));
      }
      t.begin += data;
      if (t.bytes > 0 && (t.begin > size || t.bytes > size - t.begin)) {
        Refuse(name + " passes the end of the file (truncated?)",
               fmt::format("bytes {} to {}", t.begin, t.begin + t.bytes), fmt::format("a file of {} bytes", size));
      }
      t.begin = std::min(t.begin, size);
    }
    CheckOverlap();
  }

  void CheckOverlap() const {
    std::vector<const GgufHeaderTensor*> order;
    for (const GgufHeaderTensor& t : header_.tensors) {
      if (t.bytes > 0) order.push_back(&t);
    }
    std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->begin < b->begin; });
    for (size_t i = 1; i < order.size(); ++i) {
      const GgufHeaderTensor &before = *order[i - 1], &t = *order[i];
      if (t.begin >= before.begin + before.bytes) continue;
      Refuse(fmt::format("tensor {} overlaps tensor {}", QuoteName(t.name), QuoteName(before.name)),
             fmt::format("a begin from byte {} on", before.begin + before.bytes), std::to_string(t.begin));
    }
  }

  std::string_view file_;
  const std::string& path_;
  size_t at_ = 0;
  std::string where_;  // what is being read
  std::set<std::string> names_;
  GgufHeader header_;
};

}  // namespace

GgufHeader ParseGgufHeader(std::string_view file, const std::string& path) { return HeaderParser(file, path).Parse(); }

}  // namespace taipan
