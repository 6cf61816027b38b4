#include "infer/gguf_text.h"

#include <limits>

#include "base/error.h"

namespace taipan {
namespace {

std::optional<int32_t> TokenKey(const GgufFile& file, const std::string& key) {
  if (!file.HasKey(key)) return std::nullopt;
  const int64_t id = file.GetInt(key);
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    throw UserError({file.path(), key + " is not a token id", "0 or more", std::to_string(id), ""});
  }
  return static_cast<int32_t>(id);
}

std::optional<bool> FlagKey(const GgufFile& file, const std::string& key) {
  return file.HasKey(key) ? std::optional<bool>(file.GetBool(key)) : std::nullopt;
}

}  // namespace

bool HasVocabulary(const GgufFile& file) {
  const std::string model = file.GetString("tokenizer.ggml.model", "no_vocab");
  return model != "no_vocab" && model != "none";
}

GgufVocabulary ReadGgufVocabulary(const GgufFile& file) {
  const std::string prefix = "tokenizer.ggml.";
  GgufVocabulary v;
  v.model = file.GetString(prefix + "model");
  v.pre = file.GetString(prefix + "pre", "");
  v.tokens = file.GetStrings(prefix + "tokens");
  if (file.HasKey(prefix + "scores")) v.scores = file.GetFloats(prefix + "scores");
  if (file.HasKey(prefix + "merges")) v.merges = file.GetStrings(prefix + "merges");
  if (file.HasKey(prefix + "token_type")) {
    for (const int64_t type : file.GetInts(prefix + "token_type")) v.types.push_back(static_cast<int32_t>(type));
  }
  v.bos = TokenKey(file, prefix + "bos_token_id");
  v.eos = TokenKey(file, prefix + "eos_token_id");
  v.unk = TokenKey(file, prefix + "unknown_token_id");
  v.eot = TokenKey(file, prefix + "eot_token_id");
  v.add_bos = FlagKey(file, prefix + "add_bos_token");
  v.add_eos = FlagKey(file, prefix + "add_eos_token");
  v.add_space_prefix = FlagKey(file, prefix + "add_space_prefix");
  v.chat_template = file.GetString("tokenizer.chat_template", "");
  return v;
}

GgufMetadata VocabularyMetadata(const GgufVocabulary& v) {
  GgufMetadata metadata;
  const auto set = [&](const char* key, GgufValue value) {
    metadata[std::string("tokenizer.ggml.") + key] = std::move(value);
  };
  const auto set_id = [&](const char* key, std::optional<int32_t> id) {
    if (id.has_value()) set(key, static_cast<uint32_t>(*id));
  };
  const auto set_flag = [&](const char* key, std::optional<bool> flag) {
    if (flag.has_value()) set(key, *flag);
  };
  set("model", v.model);
  set("pre", v.pre);
  set("tokens", GgufArray{v.tokens});
  if (!v.types.empty()) set("token_type", GgufArray{v.types});
  if (v.model == "llama") set("scores", GgufArray{v.scores});
  if (v.model == "gpt2") set("merges", GgufArray{v.merges});
  set_id("bos_token_id", v.bos);
  set_id("eos_token_id", v.eos);
  set_id("unknown_token_id", v.unk);
  set_id("eot_token_id", v.eot);
  set_flag("add_bos_token", v.add_bos);
  set_flag("add_eos_token", v.add_eos);
  set_flag("add_space_prefix", v.add_space_prefix);
  if (!v.chat_template.empty()) metadata["tokenizer.chat_template"] = v.chat_template;
  return metadata;
}

}  // namespace taipan
