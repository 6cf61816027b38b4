#include "formats/write_values.h"

#include <algorithm>
#include <vector>

#include "formats/ggml_quantize.h"
#include "formats/safetensors_header.h"

namespace taipan {

void WriteValues(AtomicFile& file, const std::string& path, const std::string& name, const Tensor& values,
                 GgmlType type) {
  if (values.dtype() == DType::kU8) {
    CHECK_EQ(values.shape().back() % BlockBytes(type), 0);
    return file.Write(values.data(), values.bytes());
  }
  constexpr int64_t kPiece = int64_t{1} << 22;  // elements, 16 MB: whole blocks
  const int64_t elements = BlockElements(type), bytes = BlockBytes(type);
  std::vector<char> buffer(static_cast<size_t>(std::min(values.size(), kPiece) / elements * bytes));
  for (int64_t begin = 0; begin < values.size(); begin += kPiece) {
    const int64_t n = std::min(kPiece, values.size() - begin);
    if (!Quantize(type, values.F32() + begin, n, buffer.data())) {
      throw UserError({path, fmt::format("tensor {} cannot be stored as {}", QuoteName(name), NameOf(type)),
                       BlockElements(type) > 1 ? "finite values" : "values in its range",
                       "a value that is out of range or not finite", "F32 holds any value"});
    }
    file.Write(buffer.data(), n / elements * bytes);
  }
}

}  // namespace taipan
