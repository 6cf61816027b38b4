#include "infer/state_io.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
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

// Keys or values in the type that they were saved in.
Tensor ReadKept(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const SafetensorsEntry& entry = file.At(name);
  return entry.dtype == DType::kBF16 && entry.shape == shape ? file.Read(name) : file.ReadF32(name, shape);
}

void ReadCache(const SafetensorsFile& file, size_t layer, int64_t position, const StateSpec& row, KvCache& kv) {
  const int64_t count = kv.window() > 0 ? std::min(position, kv.window()) : position;
  std::vector<int64_t> shape = {count};
  shape.insert(shape.end(), row.shape.begin(), row.shape.end());
  const Tensor k = ReadKept(file, LayerName(layer, "k"), shape);
  const Tensor v = ReadKept(file, LayerName(layer, "v"), shape);
  if (k.dtype() != v.dtype()) {
    throw UserError({file.path(), fmt::format("keys and values of layer {} have different types", layer),
                     NameOf(k.dtype()), NameOf(v.dtype())});
  }
  kv.RestartAt(position - count);
  if (count > 0) kv.Append(k.Matrix(), v.Matrix());
}

// What the branches of each layer declare: f(layer, spec).
void ForEachState(const LanguageModel& model, const std::function<void(size_t, const StateSpec&)>& f) {
  for (size_t i = 0; i < model.layers().size(); ++i) {
    for (const auto& branch : model.layers()[i].branches) {
      for (const StateSpec& spec : branch->State()) f(i, spec);
    }
  }
}

int64_t ReadPosition(const SafetensorsFile& file) {
  const Tensor position = file.Read("position");
  if (position.dtype() != DType::kI64 || position.size() != 1) {
    throw UserError({file.path(), "tensor position is not one 64-bit integer", "I64 [1]",
                     fmt::format("{} {}", NameOf(position.dtype()), ShapeString(position.shape()))});
  }
  int64_t value = 0;
  std::memcpy(&value, position.data(), sizeof value);
  if (value < 0) throw UserError({file.path(), "position is negative", "0 or more", fmt::format("{}", value)});
  return value;
}

void CheckBelongs(const SafetensorsFile& file, const LanguageModel& model) {
  const auto& metadata = file.metadata();
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != kFormat) {
    throw UserError({file.path(), "not a saved sequence state", fmt::format("metadata format {}", kFormat),
                     format == metadata.end() ? "no format" : format->second});
  }
  const auto found = metadata.find("fingerprint");
  const std::string expected = ModelFingerprint(model);
  if (found == metadata.end() || found->second != expected) {
    throw UserError({file.path(), "this state belongs to another model", "fingerprint " + expected,
                     found == metadata.end() ? "none" : found->second, "load the model that saved it"});
  }
}

}  // namespace

std::string ModelFingerprint(const LanguageModel& model) {
  uint64_t hash = 0xcbf29ce484222325ull;
  const std::string config = ToJson(model.config());
  Hash(config.data(), static_cast<int64_t>(config.size()), hash);
  const Tensor& norm = model.params().norm.f32;
  Hash(norm.data(), norm.bytes(), hash);
  const Weight& embedding = model.params().embedding;
  const int64_t width = model.config().hidden_size, size = model.config().vocab_size * width;
  const int64_t step = std::max<int64_t>(size / 4096, 1);
  std::vector<float> row(static_cast<size_t>(width));
  for (int64_t i = 0; i < size; i += step) {
    const int32_t token = static_cast<int32_t>(i / width);
    LookUp(embedding, {&token, 1}, {row.data(), 1, width});
    Hash(&row[static_cast<size_t>(i % width)], sizeof(float), hash);
  }
  return fmt::format("{:016x}", hash);
}

void SaveSequenceState(const LanguageModel& model, const SequenceState& state, const std::string& path,
                       std::span<const float> logits) {
  CHECK_EQ(state.layers.size(), model.layers().size());
  std::vector<SafetensorsItem> items = {{"position", DType::kI64, {1}, &state.position}};
  std::deque<Tensor> gathered;  // items point into it
  ForEachState(model, [&](size_t i, const StateSpec& spec) {
    const LayerState& layer = state.layers[i];
    const std::string name = LayerName(i, spec.name.c_str());
    if (!spec.per_token) {
      items.push_back({name, DType::kF32, spec.shape, layer.Fixed(spec).data()});
      return;
    }
    std::vector<int64_t> shape = {layer.kv.count()};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    gathered.push_back(Gather(layer.kv, /*values=*/spec.name == "v"));
    items.push_back({name, layer.kv.dtype(), shape, gathered.back().data()});
  });
  if (!logits.empty()) {
    items.push_back({"logits", DType::kF32, {static_cast<int64_t>(logits.size())}, logits.data()});
  }
  WriteSafetensors(path, items, {{"format", kFormat}, {"fingerprint", ModelFingerprint(model)}});
}

LoadedState LoadSequenceState(const LanguageModel& model, const std::string& path) {
  const SafetensorsFile file(path);
  CheckBelongs(file, model);
  LoadedState loaded;
  loaded.state = model.NewState();
  loaded.state.position = ReadPosition(file);
  ForEachState(model, [&](size_t i, const StateSpec& spec) {
    LayerState& layer = loaded.state.layers[i];
    if (!spec.per_token) layer.Fixed(spec) = file.ReadF32(LayerName(i, spec.name.c_str()), spec.shape);
    if (spec.name == "k") ReadCache(file, i, loaded.state.position, spec, layer.kv);
  });
  if (file.Has("logits")) {
    const int64_t vocab = model.config().vocab_size;
    const Tensor logits = file.ReadF32("logits", {vocab});
    loaded.logits.assign(logits.F32(), logits.F32() + vocab);
  }
  return loaded;
}

}  // namespace taipan
