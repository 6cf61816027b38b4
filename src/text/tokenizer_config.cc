#include "text/tokenizer_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"

namespace taipan {
namespace {

[[noreturn]] void Refuse(const std::string& where, const std::string& key, const std::string& expected,
                         const Json& found) {
  throw UserError({where, fmt::format("{} has another type", key), expected, DescribeJson(found), ""});
}

// Null where the key is absent or null.
const Json* Find(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// A special token is its text, or an object with the text as "content".
std::string TokenText(const Json& value, const std::string& where, const std::string& key) {
  const Json* text = value.is_object() ? Find(value, "content") : &value;
  if (text == nullptr || !text->is_string()) Refuse(where, key, "a token's text", value);
  return text->get<std::string>();
}

std::optional<bool> Flag(const Json& object, const std::string& where, const char* key) {
  const Json* value = Find(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) Refuse(where, key, "true or false", *value);
  return value->get<bool>();
}

int32_t Id(const Json& value, const std::string& where, const std::string& key) {
  const bool fits = value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int32_t>::max();
  if (!fits) Refuse(where, key, "a token id", value);
  return value.get<int32_t>();
}

Json ParseObject(const std::string& content, const std::string& path) {
  Json json = ParseJson(content, path);
  if (!json.is_object()) throw UserError({path, "is not a JSON object", "", DescribeJson(json), ""});
  return json;
}

void ReadSpecialTokens(const Json& json, const std::string& where, TokenizerConfig& config) {
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"}) {
    if (const Json* value = Find(json, key)) config.special_tokens[key] = TokenText(*value, where, key);
  }
}

void ReadAddedTokens(const Json& added, const std::string& where, TokenizerConfig& config) {
  const std::string key = "added_tokens_decoder";
  if (!added.is_object()) Refuse(where, key, "an object of tokens by id", added);
  for (const auto& [id_text, token] : added.items()) {
    const bool number = !id_text.empty() && id_text.size() < 10 &&
                        std::all_of(id_text.begin(), id_text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!number) throw UserError({where, key + ": a key that is no token id", "", DescribeJson(id_text), ""});
    if (!token.is_object()) Refuse(where, key, "an object for each token", token);
    config.added_tokens[std::stoi(id_text)] = {TokenText(token, where, key),
                                               Flag(token, where, "special").value_or(false)};
  }
}

// A string, or a list of {"name", "template"} of which "default" is the one for plain chats.
void ReadChatTemplate(const Json& value, const std::string& where, TokenizerConfig& config) {
  config.chat_template_file = where;
  if (value.is_string()) {
    config.chat_template = value.get<std::string>();
    return;
  }
  if (!value.is_array()) Refuse(where, "chat_template", "a string or a list of named templates", value);
  for (const Json& named : value) {
    const Json* name = named.is_object() ? Find(named, "name") : nullptr;
    const Json* text = named.is_object() ? Find(named, "template") : nullptr;
    if (name == nullptr || text == nullptr || !name->is_string() || !text->is_string()) {
      Refuse(where, "chat_template", "objects with name and template", named);
    }
    config.chat_templates[name->get<std::string>()] = text->get<std::string>();
    if (*name == "default") config.chat_template = text->get<std::string>();
  }
  if (config.chat_template.empty()) throw UserError(where, "chat_template has no template named default");
}

// The named ones beside chat_template.jinja, a file each.
void ReadMoreTemplates(const std::string& folder, TokenizerConfig& config) {
  if (!IsDirectory(folder)) return;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    config.chat_templates[entry.path().stem()] = ReadFile(entry.path());
  }
}

}  // namespace

void ReadTokenizerConfig(const std::string& content, const std::string& path, TokenizerConfig& config) {
  const Json json = ParseObject(content, path);
  ReadSpecialTokens(json, path, config);
  if (const Json* added = Find(json, "added_tokens_decoder")) ReadAddedTokens(*added, path, config);
  config.add_bos_token = Flag(json, path, "add_bos_token");
  config.add_eos_token = Flag(json, path, "add_eos_token");
  if (const Json* name = Find(json, "tokenizer_class")) {
    if (!name->is_string()) Refuse(path, "tokenizer_class", "a name", *name);
    config.tokenizer_class = name->get<std::string>();
  }
  if (const Json* chat = Find(json, "chat_template")) ReadChatTemplate(*chat, path, config);
}

void ReadGenerationConfig(const std::string& content, const std::string& path, TokenizerConfig& config) {
  const Json json = ParseObject(content, path);
  if (const Json* bos = Find(json, "bos_token_id")) config.bos_id = Id(*bos, path, "bos_token_id");
  if (const Json* eos = Find(json, "eos_token_id")) {
    const Json list = eos->is_array() ? *eos : Json::array({*eos});
    for (const Json& id : list) config.eos_ids.push_back(Id(id, path, "eos_token_id"));
  }
}

TokenizerConfig LoadTokenizerConfig(const std::string& directory) {
  TokenizerConfig config;
  const auto path = [&](const char* name) { return directory + "/" + name; };
  if (PathExists(path("special_tokens_map.json"))) {
    const std::string map = path("special_tokens_map.json");
    ReadSpecialTokens(ParseObject(ReadFile(map), map), map, config);
  }
  if (PathExists(path("tokenizer_config.json"))) {
    const std::string file = path("tokenizer_config.json");
    ReadTokenizerConfig(ReadFile(file), file, config);
  }
  if (PathExists(path("generation_config.json"))) {
    const std::string file = path("generation_config.json");
    ReadGenerationConfig(ReadFile(file), file, config);
  }
  if (PathExists(path("chat_template.jinja"))) {  // the newer place goes before the older one
    config.chat_template_file = path("chat_template.jinja");
    config.chat_template = ReadFile(config.chat_template_file);
    config.chat_templates = {{"default", config.chat_template}};
    ReadMoreTemplates(path("additional_chat_templates"), config);
  }
  return config;
}

void ApplySpecialTokens(const TokenizerConfig& config, const std::string& where, Tokenizer& tokenizer) {
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    const auto it = config.special_tokens.find(key);
    if (it == config.special_tokens.end()) return std::nullopt;
    const std::optional<int32_t> id = tokenizer.TokenId(it->second);
    if (!id.has_value()) {
      throw UserError(
          {where, fmt::format("{} names a token that the vocabulary lacks", key), "", DescribeJson(it->second), ""});
    }
    return id;
  };
  if (const auto bos = id_of("bos_token")) tokenizer.set_bos(bos);
  if (const auto eos = id_of("eos_token")) tokenizer.set_eos(eos);
}

std::vector<int32_t> EndOfTextIds(const TokenizerConfig& config, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = config.eos_ids;
  if (tokenizer.eos().has_value()) ids.push_back(*tokenizer.eos());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::vector<std::pair<std::string, std::string>> ReadTokenizerFiles(const std::string& directory) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.jinja"}) {
    const std::string path = directory + "/" + name;
    if (PathExists(path) && !IsDirectory(path)) files.emplace_back(name, ReadFile(path));
  }
  return files;
}

}  // namespace taipan
