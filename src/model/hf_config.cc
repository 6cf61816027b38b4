#include "model/hf_config.h"

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "model/config_validate.h"
#include "model/hf_format.h"

namespace taipan {
namespace {

// A model is written in the first format that it fits.
const HfFormat* const kFormats[] = {&kHfMamba2,  &kHfLlama,         &kHfMistral,   &kHfBamba,
                                    &kHfGranite, &kHfGraniteHybrid, &kHfNemotronH, &kHfFalconH1};

// Python's json module writes a bare Infinity, which is not JSON; null says the same here. The length stays, so that
// positions in messages do.
std::string WithoutBareInfinity(std::string text) {
  constexpr std::string_view kWord = "Infinity";
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string && text.compare(i, kWord.size(), kWord) == 0 && (i == 0 || text[i - 1] != '-')) {
      text.replace(i, kWord.size(), "null    ");
    }
  }
  return text;
}

CheckpointConfig Dispatch(const Json& json, const std::string& where) {
  if (!json.is_object()) throw UserError({where, "wrong JSON", "an object", DescribeJson(json)});
  if (!json.contains("model_type")) {
    if (json.contains("ssm_cfg") || json.contains("d_model")) return {ReadMambaSsm(json, where), Naming::kMambaSsm};
    return {ReadTaipanConfig(json, where), Naming::kTaipan};
  }
  if (json["model_type"] == "taipan") return {ReadTaipanConfig(json, where), Naming::kTaipan};
  std::string known = "\"taipan\"";
  for (const HfFormat* format : kFormats) {
    if (json["model_type"] == format->model_type) return {format->read(json, where), format->naming, format->name};
    known += fmt::format(", \"{}\"", format->model_type);
  }
  throw UserError(
      {where, "model_type is not supported", known + ", or a config of mamba_ssm", DescribeJson(json["model_type"])});
}

template <class T>
OrderedJson OrNull(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

void WriteCommon(const ModelConfig& c, const std::string& dtype, OrderedJson& json) {
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.hidden_size;
  json["num_hidden_layers"] = c.num_layers();
  json["hidden_act"] = "silu";
  json["initializer_range"] = c.initializer_range;
  json["tie_word_embeddings"] = c.tie_word_embeddings;
  json["bos_token_id"] = OrNull(c.bos_token_id);
  json["eos_token_id"] = OrNull(c.eos_token_id);
  json["pad_token_id"] = nullptr;
  if (c.max_position_embeddings) json["max_position_embeddings"] = *c.max_position_embeddings;
  json["torch_dtype"] = dtype;
  json["use_cache"] = true;
}

const HfFormat& FormatOf(const ModelConfig& c, const std::string& where) {
  for (const HfFormat* format : kFormats) {
    if (format->fits(c)) return *format;
  }
  const std::string kind = c.num_sals() > 0 ? NameOf(LayerKind::kSelectiveAttention) : "this mixture of blocks";
  CannotSay(where, "transformers", "it has no such architecture",
            "the blocks of one of its models, with the multipliers that these have", kind);
}

}  // namespace

CheckpointConfig ParseCheckpointConfig(const std::string& json_text, const std::string& where) {
  CheckpointConfig checkpoint = Dispatch(ParseJson(WithoutBareInfinity(json_text), where), where);
  ValidateModelConfig(checkpoint.config, where);
  return checkpoint;
}

CheckpointConfig LoadCheckpointConfig(const std::string& path) {
  const std::string text = ReadFile(path);
  CheckpointConfig checkpoint = ParseCheckpointConfig(text, path);
  const size_t slash = path.find_last_of('/');
  const std::string generation = path.substr(0, slash + 1) + "generation_config.json";
  ModelConfig& c = checkpoint.config;
  if (checkpoint.naming == Naming::kTaipan || slash == std::string::npos || !PathExists(generation)) return checkpoint;
  const Json said = ParseJson(WithoutBareInfinity(text), path);
  Json json;
  try {  // no model needs that file: what is wrong with it is left out
    json = ParseJson(ReadFile(generation), generation);
  } catch (const UserError&) {
    return checkpoint;
  }
  const auto set = [&](const char* key, std::optional<int64_t>& ours) {  // a default of the class goes after it
    if (!json.is_object() || !json.contains(key) || (said.contains(key) && !said[key].is_null())) return;
    const Json list = json[key].is_array() ? json[key] : Json::array({json[key]});
    const auto id = std::find_if(list.begin(), list.end(), [&](const Json& value) {
      return value.is_number_integer() && value >= 0 && value < c.vocab_size;
    });
    if (id != list.end()) ours = id->get<int64_t>();
  };
  set("bos_token_id", c.bos_token_id);
  set("eos_token_id", c.eos_token_id);
  return checkpoint;
}

ModelConfig ParseModelConfig(const std::string& json_text, const std::string& where) {
  return ParseCheckpointConfig(json_text, where).config;
}

ModelConfig LoadModelConfig(const std::string& path) { return LoadCheckpointConfig(path).config; }

Naming TransformersNaming(const ModelConfig& c, const std::string& where) { return FormatOf(c, where).naming; }

std::string ForeignConfigJson(const ModelConfig& c, Naming naming, const std::string& dtype, const std::string& where) {
  if (naming == Naming::kMambaSsm) return MambaSsmJson(c, where).dump(1) + "\n";
  const HfFormat& format = FormatOf(c, where);
  CHECK(format.naming == naming);
  OrderedJson json = {{"architectures", {format.architecture}}, {"model_type", format.model_type}};
  WriteCommon(c, dtype, json);
  format.write(c, where, json);
  return json.dump(1) + "\n";
}

}  // namespace taipan
