#include "infer/state_io.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "formats/safetensors.h"

namespace taipan {
namespace {

constexpr const char* kFormat = "taipan-state-1";

// FNV-1a, 64 bits: recognises a mistaken file, guards against nothing else.
void Hash(const void* data, int64_t bytes, uint64_t& hash) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (int64_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3ull;
}

std::string LayerName(size_t layer, const char* part) { return fmt::format("layers.{}.{}", layer, part); }

// The cache's rows in one piece: [count, width].
Tensor Gather(const KvCache& kv, bool values) {
  Tensor out({kv.count(), kv.width()}, kv.dtype());
  const int64_t element = SizeOf(kv.dtype()), bytes = kv.width() * element;
  std::vector<KeySpan> spans(static_cast<size_t>(kv.pages()));
  spans.resize(static_cast<size_t>(kv.Spans(kv.first(), spans.data())));
  int64_t row = 0;
  for (const KeySpan& span : spans) {
    for (int64_t i = 0; i < span.count; ++i, ++row) {
      const char* from = static_cast<const char*>(values ? span.v : span.k) + i * span.stride * element;
      std::memcpy(static_cast<char*>(out.data()) + row * bytes, from, static_cast<size_t>(bytes));
    }
  }
  CHECK_EQ(row, kv.count());
  return out;
}

void ReadFixed(const SafetensorsFile& file, const std::string& name, Tensor& into) {
  if (!into.empty()) into = file.ReadF32(name, into.shape());
}

// Keys or values in the type that they were saved in.
Tensor ReadKept(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const SafetensorsEntry& entry = file.At(name);
  return entry.dtype == DType::kBF16 && entry.shape == shape ? file.Read(name) : file.ReadF32(name, shape);
}

void ReadCache(const SafetensorsFile& file, size_t layer, int64_t position, const ModelConfig& config, KvCache& kv) {
  const int64_t heads = config.num_key_value_heads;
  const int64_t count = kv.window() > 0 ? std::min(position, kv.window()) : position;
  const std::vector<int64_t> shape = {count, heads, kv.width() / heads};
  const Tensor k = ReadKept(file, LayerName(layer, "k"), shape);
  const Tensor v = ReadKept(file, LayerName(layer, "v"), shape);
  if (k.dtype() != v.dtype()) {
    throw UserError({file.path(), fmt::format("keys and values of layer {} have different types", layer),
                     NameOf(k.dtype()), NameOf(v.dtype()), ""});
  }
  kv.RestartAt(position - count);
  if (count > 0) kv.Append(k.Matrix(), v.Matrix());
}

int64_t ReadPosition(const SafetensorsFile& file) {
  const Tensor position = file.Read("position");
  if (position.dtype() != DType::kI64 || position.size() != 1) {
    throw UserError({file.path(), "tensor position is not one 64-bit integer", "I64 [1]",
                     fmt::format("{} {}", NameOf(position.dtype()), ShapeString(position.shape())), ""});
  }
  int64_t value = 0;
  std::memcpy(&value, position.data(), sizeof value);
  if (value < 0) throw UserError({file.path(), "position is negative", "0 or more", fmt::format("{}", value), ""});
  return value;
}

void CheckBelongs(const SafetensorsFile& file, const Model& model) {
  const auto& metadata = file.metadata();
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != kFormat) {
    throw UserError({file.path(), "not a saved sequence state", fmt::format("metadata format {}", kFormat),
                     format == metadata.end() ? "no format" : format->second, ""});
  }
  const auto found = metadata.find("fingerprint");
  const std::string expected = ModelFingerprint(model);
  if (found == metadata.end() || found->second != expected) {
    throw UserError({file.path(), "this state belongs to another model", "fingerprint " + expected,
                     found == metadata.end() ? "none" : found->second, "load the model that saved it"});
  }
}

}  // namespace

std::string ModelFingerprint(const Model& model) {
  uint64_t hash = 0xcbf29ce484222325ull;
  const std::string config = ToJson(model.config());
  Hash(config.data(), static_cast<int64_t>(config.size()), hash);
  const Tensor& norm = model.params().norm;
  Hash(norm.data(), norm.bytes(), hash);
  const Tensor& embedding = model.params().embedding.master;
  const int64_t step = std::max<int64_t>(embedding.size() / 4096, 1);
  for (int64_t i = 0; i < embedding.size(); i += step) Hash(embedding.F32() + i, sizeof(float), hash);
  return fmt::format("{:016x}", hash);
}

void SaveSequenceState(const Model& model, const SequenceState& state, const std::string& path,
                       std::span<const float> logits) {
  CHECK_EQ(state.layers.size(), model.blocks().size());
  const int64_t heads = model.config().num_key_value_heads;
  std::vector<SafetensorsItem> items = {{"position", DType::kI64, {1}, &state.position}};
  std::vector<Tensor> gathered;
  gathered.reserve(2 * state.layers.size());  // items point into it
  for (size_t i = 0; i < state.layers.size(); ++i) {
    const LayerState& layer = state.layers[i];
    if (!layer.ssm.empty())
      items.push_back({LayerName(i, "ssm_state"), DType::kF32, layer.ssm.shape(), layer.ssm.data()});
    if (!layer.conv.empty()) {
      items.push_back({LayerName(i, "conv_state"), DType::kF32, layer.conv.shape(), layer.conv.data()});
    }
    if (layer.kv.width() == 0) continue;
    for (const bool values : {false, true}) {
      gathered.push_back(Gather(layer.kv, values));
      items.push_back({LayerName(i, values ? "v" : "k"),
                       layer.kv.dtype(),
                       {layer.kv.count(), heads, layer.kv.width() / heads},
                       gathered.back().data()});
    }
  }
  if (!logits.empty()) {
    items.push_back({"logits", DType::kF32, {static_cast<int64_t>(logits.size())}, logits.data()});
  }
  WriteSafetensors(path, items, {{"format", kFormat}, {"fingerprint", ModelFingerprint(model)}});
}

LoadedState LoadSequenceState(const Model& model, const std::string& path) {
  const SafetensorsFile file(path);
  CheckBelongs(file, model);
  LoadedState loaded;
  loaded.state = model.NewState();
  loaded.state.position = ReadPosition(file);
  for (size_t i = 0; i < loaded.state.layers.size(); ++i) {
    LayerState& layer = loaded.state.layers[i];
    ReadFixed(file, LayerName(i, "ssm_state"), layer.ssm);
    ReadFixed(file, LayerName(i, "conv_state"), layer.conv);
    if (layer.kv.width() > 0) ReadCache(file, i, loaded.state.position, model.config(), layer.kv);
  }
  if (file.Has("logits")) {
    const int64_t vocab = model.config().vocab_size;
    const Tensor logits = file.ReadF32("logits", {vocab});
    loaded.logits.assign(logits.F32(), logits.F32() + vocab);
  }
  return loaded;
}

}  // namespace taipan
