#include "infer/gguf_text.h"

#include <limits>
#include <variant>

#include "base/error.h"
#include "base/fields.h"
#include "text/json_part.h"
#include "text/tokenizer_json_write.h"

namespace taipan {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::optional<int32_t> TokenKey(const GgufFile& file, const std::string& key) {
  if (!file.HasKey(key)) return std::nullopt;
  const int64_t id = file.GetInt(key);
  if (id == -1 || id == 0xFFFFFFFF) return std::nullopt;  // how some say "none"
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    throw UserError({file.path(), key + " is not a token id", "0 or more", std::to_string(id)});
  }
  return static_cast<int32_t>(id);
}

// What llama.cpp has no keys for; it skips these.
constexpr const char* kStopsKey = "tokenizer.taipan.eos_token_ids";
constexpr const char* kSpacePrefixKey = "tokenizer.taipan.space_prefix";
constexpr const char* kFlagsKey = "tokenizer.taipan.added_tokens";

void ReadOwnKeys(const GgufFile& file, GgufVocabulary& v) {
  if (file.HasKey(kStopsKey)) {
    for (const int64_t id : file.GetInts(kStopsKey)) v.stops.push_back(static_cast<int32_t>(id));
  }
  v.space_prefix = file.GetString(kSpacePrefixKey, "");
  if (!file.HasKey(kFlagsKey)) return;
  const std::string where = file.path() + ": " + kFlagsKey;
  const Json list = ParseJson(file.GetString(kFlagsKey), where);
  const JsonPart part(list, where);
  for (size_t i = 0; i < part.ListSize(); ++i) v.flags.push_back(ReadAddedToken(part.Item(i)));
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
  const auto chat = file.metadata().find("tokenizer.chat_template");  // needed by chats alone, whatever it holds
  if (chat != file.metadata().end() && std::holds_alternative<std::string>(chat->second)) {
    v.chat_template = std::get<std::string>(chat->second);
  }
  ReadOwnKeys(file, v);
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
  if (!v.stops.empty()) metadata[kStopsKey] = GgufArray{v.stops};
  if (!v.space_prefix.empty()) metadata[kSpacePrefixKey] = v.space_prefix;
  if (!v.flags.empty()) {
    OrderedJson list = OrderedJson::array();
    for (const AddedToken& token : v.flags) list.push_back(AddedTokenJson(token));
    metadata[kFlagsKey] = list.dump();
  }
  return metadata;
}

}  // namespace taipan
