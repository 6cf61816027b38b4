#include "infer/state_io.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <map>
#include <string_view>

#include "base/content_hash.h"
#include "base/parallel.h"
#include "formats/safetensors_header.h"
#include "infer/sequence_reader.h"
#include "layers/kv_rows.h"
#include "model/default_dtype.h"

namespace taipan {
namespace {

constexpr const char* kFormat = "taipan-state-3";
constexpr std::string_view kAnyVersion = "taipan-state-";

std::string LayerName(size_t layer, const char* part) { return fmt::format("layers.{}.{}", layer, part); }

std::string ScaleName(size_t layer, const char* part) { return LayerName(layer, part) + "_scale"; }

// Keys or values in the type that the model keeps them in.
Tensor ReadKept(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape, DType dtype) {
  const SafetensorsEntry& entry = file.At(name);
  if (entry.dtype != dtype) {
    throw UserError({file.path(), "the state keeps keys and values in another number format", NameIn(KvTypeOf(dtype)),
                     NameOf(entry.dtype), "--kv-dtype names the one to keep them in"});
  }
  return dtype != DType::kF32 && entry.shape == shape ? file.Read(name) : file.ReadF32(name, shape);
}

void ReadCache(const SafetensorsFile& file, size_t layer, int64_t position, const StateSpec& row, DType dtype,
               KvCache& kv) {
  const int64_t count = row.tokens(position);
  std::vector<int64_t> shape = {count};
  shape.insert(shape.end(), row.shape.begin(), row.shape.end());
  if (count == 0) return kv.RestartAt(position);
  const Tensor k = ReadKept(file, LayerName(layer, "k"), shape, dtype);
  const Tensor v = ReadKept(file, LayerName(layer, "v"), shape, dtype);
  KeyRows rows{.k = k.Matrix(), .v = v.Matrix()};
  Tensor k_scales, v_scales;
  if (dtype == DType::kI8) {
    rows.heads = kv.heads();
    k_scales = file.ReadF32(ScaleName(layer, "k"), {count, kv.heads()});
    v_scales = file.ReadF32(ScaleName(layer, "v"), {count, kv.heads()});
    rows.k_scales = k_scales.F32();
    rows.v_scales = v_scales.F32();
  }
  kv.Restore(position, rows);
}

// Into a new state.
void ReadLayer(const SafetensorsFile& file, size_t layer, int64_t position, const LanguageModel& model,
               LayerState& to) {
  ForEachState(model.layers()[layer], [&](const StateSpec& spec) {
    if (spec.name == "k") ReadCache(file, layer, position, spec, model.kv_dtype(), to.kv);
    if (!spec.per_token) file.ReadInto(LayerName(layer, spec.name.c_str()), spec.shape, {}, to.Fixed(spec));
  });
}

std::string Hex(uint64_t value) { return fmt::format("{:016x}", value); }

void AddText(std::string_view text, ContentHash& hash) {
  const uint64_t size = text.size();
  hash.Add(&size, sizeof size);
  hash.Add(text.data(), static_cast<int64_t>(size));
}

// A named tensor in a file or to be written.
struct Element {
  std::string_view name;
  DType dtype;
  std::span<const int64_t> shape;
  const void* data;
  int64_t bytes;
};

// Over everything that the file means: metadata but for the checksum itself, and of each element, by name, its name,
// type, shape and content. Elements are summed up side by side: a state is restored about as fast as memory allows.
std::string ChecksumOf(std::span<const Element> elements, const std::map<std::string, std::string>& metadata) {
  std::vector<uint64_t> hashes(elements.size());
  ParallelFor(std::ssize(elements), [&](int64_t i) {
    const Element& e = elements[static_cast<size_t>(i)];
    ContentHash hash;
    AddText(e.name, hash);
    AddText(NameOf(e.dtype), hash);
    for (const int64_t size : e.shape) hash.Add(&size, sizeof size);
    hash.Add(e.data, e.bytes);
    hashes[static_cast<size_t>(i)] = hash.Finish();
  });
  ContentHash hash;
  for (const auto& [key, value] : metadata) {
    if (key == "checksum") continue;
    AddText(key, hash);
    AddText(value, hash);
  }
  for (const uint64_t of_element : hashes) hash.Add(&of_element, sizeof of_element);
  return Hex(hash.Finish());
}

std::string ChecksumOf(const std::vector<SafetensorsItem>& items, const std::map<std::string, std::string>& metadata) {
  std::vector<Element> elements;
  for (const SafetensorsItem& i : items) elements.push_back({i.name, i.dtype, i.shape, i.data, BytesOf(i)});
  std::sort(elements.begin(), elements.end(), [](const Element& a, const Element& b) { return a.name < b.name; });
  return ChecksumOf(elements, metadata);
}

std::string MetadataOf(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "none" : found->second;
}

// Of digits that a damaged file may hold anything instead of.
template <class T>
T ParseMetadata(const SafetensorsFile& file, const std::string& key, int base) {
  const std::string text = MetadataOf(file, key);
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    throw UserError({file.path(), "damaged: metadata " + key + " is no number", "digits", QuoteName(text)});
  }
  return value;
}

void CheckBelongs(const SafetensorsFile& file, const LanguageModel& model) {
  const std::string format = MetadataOf(file, "format");
  if (!format.starts_with(kAnyVersion)) {
    throw UserError(
        {file.path(), "not a saved sequence state", fmt::format("metadata format {}", kFormat), QuoteName(format)});
  }
  if (format != kFormat) {
    throw UserError({file.path(), "a state of another version of the format", kFormat, QuoteName(format),
                     "read the text again and save a new one"});
  }
  const std::string dtype = NameIn(ComputeTypeOf(model.dtype())), found_dtype = MetadataOf(file, "dtype");
  if (found_dtype != dtype) {
    throw UserError({file.path(), "the state was computed in another number format", dtype, QuoteName(found_dtype),
                     "--dtype names the one to run in"});
  }
  const std::string digest = ModelDigest(model), found_digest = MetadataOf(file, "model");
  if (found_digest != digest) {
    throw UserError({file.path(), "this state belongs to another model", "digest " + digest, QuoteName(found_digest),
                     "load the model that saved it, with the same weight types and --budget"});
  }
}

void CheckWhole(const SafetensorsFile& file) {
  const std::string expected = MetadataOf(file, "checksum"), found = StateChecksum(file);
  if (found == expected) return;
  throw UserError({file.path(), "the state is damaged: its content does not have its checksum", QuoteName(expected),
                   found, "read the text again and save a new one"});
}

StateFileInfo InfoOf(const SafetensorsFile& file) {
  constexpr int64_t kMostTokens = int64_t{1}
                                  << 40;  // more than anybody reads: positions stay far from their type's end
  const auto position = ParseMetadata<int64_t>(file, "position", 10);
  if (position > kMostTokens) {
    throw UserError(
        {file.path(), "impossible position", fmt::format("0 to {}", kMostTokens), std::to_string(position)});
  }
  return {.position = position, .token_digest = ParseMetadata<uint64_t>(file, "token_digest", 16)};
}

void ReadTokens(const SafetensorsFile& file, const StateFileInfo& info, int64_t vocab, std::vector<int32_t>& tokens) {
  if (!file.Has("tokens")) return;
  const Tensor stored = file.Read("tokens");
  const bool fits = stored.dtype() == DType::kI32 && stored.shape() == std::vector<int64_t>{info.position};
  if (!fits) {
    throw UserError({file.path(), "tensor tokens does not fit the position", fmt::format("I32 [{}]", info.position),
                     fmt::format("{} {}", NameOf(stored.dtype()), ShortShape(stored.shape()))});
  }
  const auto* const first = static_cast<const int32_t*>(stored.data());
  tokens.assign(first, first + stored.size());
  const std::string expected = Hex(info.token_digest), found = Hex(DigestTokens(tokens));
  if (found != expected) throw UserError({file.path(), "the tokens do not have their digest", expected, found});
  CheckTokenIds(tokens, vocab, file.path());
}

// `items` point into the layer and into `gathered`.
void AddLayer(const LanguageModel& model, size_t i, const LayerState& layer, std::vector<SafetensorsItem>& items,
              std::deque<CachedRows>& gathered) {
  ForEachState(model.layers()[i], [&](const StateSpec& spec) {
    const std::string name = LayerName(i, spec.name.c_str());
    if (!spec.per_token) {
      items.push_back({name, DType::kF32, spec.shape, layer.Fixed(spec).data()});
      return;
    }
    std::vector<int64_t> shape = {layer.kv.count()};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    gathered.push_back(CopyCache(layer, spec, model.kv_dtype()));
    const auto& [rows, scales] = gathered.back();
    items.push_back({name, rows.dtype(), shape, rows.data()});
    if (scales.empty()) return;
    items.push_back({ScaleName(i, spec.name.c_str()), DType::kF32, scales.shape(), scales.data()});
  });
}

}  // namespace

std::string StateChecksum(const SafetensorsFile& file) {
  std::vector<Element> elements;
  for (const auto& [name, e] : file.entries()) elements.push_back({name, e.dtype, e.shape, e.data, e.bytes});
  return ChecksumOf(elements, file.metadata());
}

void SaveSequence(const LanguageModel& model, const SequenceSnapshot& sequence, const std::string& path) {
  const SequenceState& state = sequence.state;
  CHECK_EQ(state.layers.size(), model.layers().size());
  std::vector<SafetensorsItem> items;
  std::deque<CachedRows> gathered;
  for (size_t i = 0; i < state.layers.size(); ++i) AddLayer(model, i, state.layers[i], items, gathered);
  const auto count = [](const auto& values) { return static_cast<int64_t>(values.size()); };
  if (!sequence.tokens.empty()) {
    CHECK_EQ(count(sequence.tokens), state.position);
    CHECK_EQ(DigestTokens(sequence.tokens), sequence.token_digest);
    items.push_back({"tokens", DType::kI32, {count(sequence.tokens)}, sequence.tokens.data()});
  }
  if (!sequence.logits.empty()) {
    items.push_back({"logits", DType::kF32, {count(sequence.logits)}, sequence.logits.data()});
  }
  std::map<std::string, std::string> metadata = {{"format", kFormat},
                                                 {"model", ModelDigest(model)},
                                                 {"dtype", NameIn(ComputeTypeOf(model.dtype()))},
                                                 {"position", std::to_string(state.position)},
                                                 {"token_digest", Hex(sequence.token_digest)}};
  metadata["checksum"] = ChecksumOf(items, metadata);
  WriteSafetensors(path, items, metadata);
}

StateFileInfo ReadStateInfo(const LanguageModel& model, const std::string& path) {
  const SafetensorsFile file(path);
  CheckBelongs(file, model);
  return InfoOf(file);
}

SequenceSnapshot LoadSequence(const LanguageModel& model, const std::string& path) {
  return LoadSequence(model, SafetensorsFile(path));
}

SequenceSnapshot LoadSequence(const LanguageModel& model, const SafetensorsFile& file) {
  CheckBelongs(file, model);
  CheckWhole(file);
  const StateFileInfo info = InfoOf(file);
  SequenceSnapshot loaded;
  loaded.token_digest = info.token_digest;
  loaded.state = model.NewState();
  loaded.state.position = info.position;
  ParallelFor(std::ssize(model.layers()), [&](int64_t i) {
    ReadLayer(file, static_cast<size_t>(i), info.position, model, loaded.state.layers[static_cast<size_t>(i)]);
  });
  const int64_t vocab = model.config().vocab_size;
  ReadTokens(file, info, vocab, loaded.tokens);
  if (file.Has("logits")) {
    const Tensor logits = file.ReadF32("logits", {vocab});
    loaded.logits.assign(logits.F32(), logits.F32() + vocab);
  }
  return loaded;
}

}  // namespace taipan
