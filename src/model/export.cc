#include "model/export.h"

#include <deque>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/parallel.h"
#include "formats/ggml_quantize.h"
#include "formats/safetensors_set.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"
#include "model/rope_scaling.h"

namespace taipan {
namespace {

constexpr int64_t kShardBytes = 5'000'000'000;  // transformers' default

struct TypeRow {
  const char* name;
  GgmlType type;
  DType dtype;             // in safetensors
  const char* torch_name;  // in config.json
};
constexpr TypeRow kTypeRows[] = {{"f32", GgmlType::kF32, DType::kF32, "float32"},
                                 {"f16", GgmlType::kF16, DType::kF16, "float16"},
                                 {"bf16", GgmlType::kBF16, DType::kBF16, "bfloat16"},
                                 {"q8_0", GgmlType::kQ8_0, DType::kU8, ""}};

const TypeRow& RowOf(GgmlType type) {
  for (const TypeRow& row : kTypeRows) {
    if (row.type == type) return row;
  }
  CheckFailed(__FILE__, __LINE__, "a type that is not exported: " + NameOf(type));
}

// general.file_type of GGUF: what most of a file's matrices are.
uint32_t FileTypeOf(GgmlType type) {
  static const std::map<GgmlType, uint32_t> kFileTypes = {
      {GgmlType::kF32, 0},   {GgmlType::kF16, 1},   {GgmlType::kBF16, 32}, {GgmlType::kQ4_0, 2},
      {GgmlType::kQ4_1, 3},  {GgmlType::kQ8_0, 7},  {GgmlType::kQ5_0, 8},  {GgmlType::kQ5_1, 9},
      {GgmlType::kQ4_K, 14}, {GgmlType::kQ5_K, 16}, {GgmlType::kQ6_K, 18}, {GgmlType::kIQ4_NL, 25}};
  return kFileTypes.at(type);
}

// A copy in the file's layout and shape.
Tensor InLayout(const ForeignTensor& t, const Tensor& values) {
  Tensor out(t.shape);
  CHECK_EQ(out.size(), values.size());
  std::copy(values.F32(), values.F32() + values.size(), out.F32());
  ToLayout(t, out);
  return out;
}

// What is written of a matrix: its values in the file's layout, or its blocks.
Tensor ToWrite(const ForeignTensor& t, const Tensor& values, const Quantization& quantization) {
  const auto rounded = quantization.rounded.find(t.parameter);
  if (rounded == quantization.rounded.end()) return InLayout(t, values);
  CHECK_EQ(t.rows, 0);
  Tensor blocks = rounded->second;
  ToLayout(t, blocks);
  return blocks;
}

Tensor Rounded(const Tensor& values, const std::vector<int64_t>& shape, const TypeRow& row, const std::string& where,
               const std::string& name) {
  Tensor out(shape, row.dtype);
  if (Quantize(row.type, values.F32(), values.size(), out.data())) return out;
  throw UserError({.where = where,
                   .problem = fmt::format("tensor \"{}\" has values beyond {}", name, row.name),
                   .hint = "--dtype bf16 or f32 has their range"});
}

// Each tensor of the format with its values: a parameter's own, or several together, which `joined` keeps.
void ForEachForeign(LanguageModel& model, Naming naming, std::deque<Tensor>& joined,
                    const std::function<void(const ForeignTensor&, const Tensor&)>& visit) {
  const std::vector<ForeignTensor> names = ForeignTensors(model.config(), naming);
  size_t next = 0;
  model.RequireF32("exporting a model");
  model.params().ForEach([&](Weight& w) {
    const ForeignTensor& t = names.at(next++);
    CHECK(t.parameter == w.spec.name);
    if (t.rows == 0) return visit(t, w.f32);
    if (t.row_begin == 0) joined.emplace_back(t.shape);
    std::copy_n(std::as_const(w).F32(), w.f32.size(), joined.back().F32() + t.row_begin * (w.f32.size() / t.rows));
    if (t.row_begin + t.rows == t.shape[0]) visit(t, joined.back());
  });
}

}  // namespace

GgmlType ParseExportType(const std::string& name) {
  for (const TypeRow& row : kTypeRows) {
    if (name == row.name) return row.type;
  }
  throw UserError({"--dtype", "unknown type", "f32, f16, bf16 or q8_0", name});
}

void ExportFolder(LanguageModel& model, Naming naming, GgmlType type, const std::string& folder,
                  const std::string& where) {
  const TypeRow& row = RowOf(type);
  if (type == GgmlType::kQ8_0) {
    throw UserError(
        {"--dtype", "safetensors holds no quantised blocks", "f32, f16 or bf16", row.name, "--to gguf has q8_0"});
  }
  const ModelConfig& config = model.config();
  const std::string json =
      naming == Naming::kTaipan ? ToJson(config) : ForeignConfigJson(config, naming, row.torch_name, where);
  std::vector<Tensor> rounded;
  std::vector<SafetensorsItem> items;
  std::deque<Tensor> joined;
  ForEachForeign(model, naming, joined, [&](const ForeignTensor& t, const Tensor& values) {
    const void* data = values.data();
    if (type != GgmlType::kF32) {
      rounded.push_back(Rounded(values, t.shape, row, where, t.name));
      data = rounded.back().data();
    }
    items.push_back({t.name, row.dtype, t.shape, data});
  });
  if (NamesTiedHead(naming) && config.tie_word_embeddings) {
    items.push_back(items.front());
    items.back().name = "lm_head.weight";
  }
  WriteSafetensorsSet(folder, items, kShardBytes, {{"format", "pt"}});
  WriteFileAtomically(folder + "/config.json", json);
}

void ExportGguf(LanguageModel& model, GgmlType type, const GgufMetadata& tokenizer, const std::string& path,
                const std::string& where) {
  const auto types = [&](const ForeignTensor& t) {
    if (t.shape[1] % BlockElements(type) == 0) return type;
    throw UserError({where, fmt::format("tensor \"{}\" cannot be q8_0", t.name), "rows of a multiple of 32 values",
                     std::to_string(t.shape[1]), "--dtype f16 has no such limit"});
  };
  ExportQuantizedGguf(model, {types}, type, tokenizer, path, where);
}

bool IsMatrix(const ForeignTensor& t) {
  // Of blocks, only what the two large products of each read is matrices to llama.cpp.
  return t.shape.size() == 2 && t.shape[1] > 1 && t.parameter.find("mixer.conv1d") == std::string::npos &&
         t.parameter.find("mixer.norm") == std::string::npos;
}

void ExportQuantizedFolder(LanguageModel& model, const Quantization& quantization, const std::string& folder) {
  std::vector<SafetensorsItem> items;
  std::deque<Tensor> joined;
  ForEachForeign(model, Naming::kTaipan, joined, [&](const ForeignTensor& t, const Tensor& values) {
    SafetensorsItem item{.name = t.name, .shape = t.shape};
    const GgmlType type = IsMatrix(t) ? quantization.types(t) : GgmlType::kF32;
    if (BlockElements(type) > 1) {
      item.quantized = type;
    } else {
      item.dtype = RowOf(type).dtype;
    }
    item.values = [&quantization, t, &values] { return ToWrite(t, values, quantization); };
    items.push_back(std::move(item));
  });
  WriteSafetensorsSet(folder, items, kShardBytes, {{"format", "pt"}});
  WriteFileAtomically(folder + "/config.json", ToJson(model.config()));
}

void ExportQuantizedGguf(LanguageModel& model, const Quantization& quantization, GgmlType type,
                         const GgufMetadata& tokenizer, const std::string& path, const std::string& where) {
  const ModelConfig& config = model.config();
  GgufMetadata metadata = ModelMetadata(config, where);
  metadata["general.file_type"] = FileTypeOf(type);
  if (BlockElements(type) > 1) metadata["general.quantization_version"] = uint32_t{2};
  if (tokenizer.empty()) metadata["tokenizer.ggml.model"] = std::string("no_vocab");
  metadata.insert(tokenizer.begin(), tokenizer.end());
  const auto id = [&](const char* key, const std::optional<int64_t>& value) {
    if (value) metadata.emplace(key, static_cast<uint32_t>(*value));
  };
  id("tokenizer.ggml.bos_token_id", config.bos_token_id);
  id("tokenizer.ggml.eos_token_id", config.eos_token_id);

  std::vector<GgufItem> items;
  std::deque<Tensor> joined;
  ForEachForeign(model, Naming::kGguf, joined, [&](const ForeignTensor& t, const Tensor& values) {
    const GgmlType of_tensor = IsMatrix(t) ? quantization.types(t) : GgmlType::kF32;
    items.push_back(
        {t.name, of_tensor, t.shape, [&quantization, t, &values] { return ToWrite(t, values, quantization); }});
  });
  if (config.rope_scaling && config.rope_scaling->type == RopeScaling::Type::kLlama3) {
    const std::vector<double> divisors = RopeFrequencyDivisors(config);
    const int64_t n = static_cast<int64_t>(divisors.size());
    items.push_back({kRopeDivisorsName, GgmlType::kF32, {n}, [divisors, n] {
                       Tensor t({n});
                       std::transform(divisors.begin(), divisors.end(), t.F32(),
                                      [](double d) { return static_cast<float>(d); });
                       return t;
                     }});
  }
  WriteGguf(path, metadata, items);
}

}  // namespace taipan
