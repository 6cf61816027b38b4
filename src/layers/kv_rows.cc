#include "layers/kv_rows.h"

#include <algorithm>
#include <cstring>

namespace taipan {

CachedRows CopyCache(const LayerState& layer, const StateSpec& spec, DType dtype) {
  CHECK(spec.per_token);
  const KvCache& kv = layer.kv;
  const bool values = spec.name == "v";
  CHECK(kv.count() == 0 || kv.dtype() == dtype);
  CachedRows out{Tensor::Unset({kv.count(), kv.width()}, dtype), {}};
  if (dtype == DType::kI8) out.scales = Tensor({kv.count(), kv.heads()});
  const int64_t element = SizeOf(dtype), bytes = kv.width() * element;
  std::vector<KeySpan> spans(static_cast<size_t>(kv.pages()));
  spans.resize(static_cast<size_t>(kv.Spans(kv.first(), spans.data())));
  int64_t row = 0;
  for (const KeySpan& span : spans) {
    const float* const scales = values ? span.v_scales : span.k_scales;
    if (scales != nullptr) std::copy_n(scales, span.count * kv.heads(), out.scales.F32() + row * kv.heads());
    for (int64_t i = 0; i < span.count; ++i, ++row) {
      const char* from = static_cast<const char*>(values ? span.v : span.k) + i * span.stride * element;
      std::memcpy(static_cast<char*>(out.rows.data()) + row * bytes, from, static_cast<size_t>(bytes));
    }
  }
  CHECK_EQ(row, kv.count());
  return out;
}

}  // namespace taipan
