#include "text/tokenizer_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"

namespace taipan {
namespace {

[[noreturn]] void Refuse(const std::string& where, const std::string& key, const std::string& expected,
                         const Json& found) {
  throw UserError({where, fmt::format("{} has another type", key), expected, DescribeJson(found)});
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

bool IsTokenId(const Json& value) {
  return value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int32_t>::max();
}

Json ParseObject(const std::string& content, const std::string& path) {
  Json json = ParseJson(content, path);
  if (!json.is_object())
    throw UserError({.where = path, .problem = "is not a JSON object", .found = DescribeJson(json)});
  return json;
}

// A token with its flags; a text alone has none.
AddedToken ReadToken(const Json& value, const std::string& where, const std::string& key, bool special) {
  AddedToken token;
  token.id = -1;
  token.content = TokenText(value, where, key);
  token.special = special;
  token.normalized = !special;
  if (!value.is_object()) return token;
  token.special = special || Flag(value, where, "special").value_or(false);
  token.single_word = Flag(value, where, "single_word").value_or(false);
  token.lstrip = Flag(value, where, "lstrip").value_or(false);
  token.rstrip = Flag(value, where, "rstrip").value_or(false);
  token.normalized = Flag(value, where, "normalized").value_or(!token.special);
  return token;
}

// "bos_token" and every other key of its kind, those that only some models have included.
void ReadNamedTokens(const Json& json, const std::string& where, bool replace, TokenizerConfig& config) {
  static const std::set<std::string> kNames = {"bos_token", "eos_token", "unk_token", "pad_token",
                                               "sep_token", "cls_token", "mask_token"};
  for (const auto& [key, value] : json.items()) {
    const bool known = kNames.count(key) > 0;
    const bool other = key.ends_with("_token") && (value.is_string() || (value.is_object() && Find(value, "content")));
    if (value.is_null() || (!known && !other)) continue;
    const AddedToken token = ReadToken(value, where, key, /*special=*/true);
    const auto before = config.special_tokens.find(key);
    if (before != config.special_tokens.end()) {
      if (!replace) continue;
      std::erase_if(config.named_tokens, [&](const AddedToken& t) { return t.content == before->second; });
    }
    config.special_tokens[key] = token.content;
    config.named_tokens.push_back(token);
  }
}

// A list of texts or tokens, or an object of them by name.
void ReadExtraTokens(const Json& json, const std::string& where, TokenizerConfig& config) {
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const Json* list = Find(json, key);
    if (list == nullptr) continue;
    if (!list->is_array() && !list->is_object()) Refuse(where, key, "a list of tokens", *list);
    for (const Json& value : *list) {
      const AddedToken token = ReadToken(value, where, key, /*special=*/true);
      auto& all = config.extra_special_tokens;
      const bool known = std::any_of(all.begin(), all.end(), [&](const auto& t) { return t.content == token.content; });
      if (!known) all.push_back(token);
    }
  }
}

void ReadAddedTokensDecoder(const Json& added, const std::string& where, TokenizerConfig& config) {
  const std::string key = "added_tokens_decoder";
  if (!added.is_object()) Refuse(where, key, "an object of tokens by id", added);
  config.has_added_tokens_decoder = true;
  config.added_tokens_file = where;
  for (const auto& [id_text, value] : added.items()) {
    const bool number = !id_text.empty() && id_text.size() < 10 &&
                        std::all_of(id_text.begin(), id_text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!number)
      throw UserError({.where = where, .problem = key + ": a key that is no token id", .found = DescribeJson(id_text)});
    if (!value.is_object()) Refuse(where, key, "an object for each token", value);
    AddedToken token = ReadToken(value, where, key, /*special=*/false);
    token.id = std::stoi(id_text);
    if (!token.content.empty()) config.added_tokens[token.id] = token;
  }
}

// added_tokens.json: {"token": id}. The special ones are those that another file names.
void ReadAddedTokensFile(const std::string& path, TokenizerConfig& config) {
  config.added_tokens_file = path;
  const auto is_special = [&](const std::string& content) {
    const auto same = [&](const AddedToken& t) { return t.content == content; };
    const auto& named = config.named_tokens;
    const auto& extra = config.extra_special_tokens;
    return std::any_of(named.begin(), named.end(), same) || std::any_of(extra.begin(), extra.end(), same);
  };
  const Json json = ParseObject(ReadFile(path), path);
  for (const auto& [content, id] : json.items()) {
    if (!IsTokenId(id)) Refuse(path, fmt::format("the id of {}", DescribeJson(content)), "a token id", id);
    AddedToken token{.id = id.get<int32_t>(), .content = content, .special = is_special(content)};
    token.normalized = !token.special;
    if (!content.empty()) config.added_tokens[token.id] = token;
  }
}

// A string, or a list of {"name", "template"} or an object by name, of which "default" is the one for plain chats.
void ReadChatTemplate(const Json& value, const std::string& where, TokenizerConfig& config) {
  config.chat_template_file = where;
  if (value.is_string()) {
    config.chat_template = value.get<std::string>();
    return;
  }
  std::map<std::string, std::string>& templates = config.chat_templates;
  for (const auto& [key, named] : value.items()) {
    const Json* name = named.is_object() ? Find(named, "name") : nullptr;
    const Json* text = named.is_object() ? Find(named, "template") : nullptr;
    if (value.is_object() && named.is_string()) {
      templates[key] = named.get<std::string>();
    } else if (name != nullptr && text != nullptr && name->is_string() && text->is_string()) {
      templates[name->get<std::string>()] = text->get<std::string>();
    }
  }
  std::string names;
  for (const auto& [name, text] : templates) names += (names.empty() ? "" : ", ") + DescribeJson(name);
  if (const auto plain = templates.find("default"); plain != templates.end()) config.chat_template = plain->second;
  if (!config.chat_template.empty()) return;
  config.no_chat_template = names.empty() ? "chat_template is " + DescribeJson(value)
                                          : "chat_template has no template named default, but " + names;
}

// The named ones beside chat_template.jinja, a file each.
void ReadMoreTemplates(const std::string& folder, TokenizerConfig& config) {
  if (!IsDirectory(folder)) return;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    config.chat_templates[entry.path().stem()] = ReadFile(entry.path());
  }
}

std::string ReadClass(const Json& json, const std::string& path) {
  const Json* name = Find(json, "tokenizer_class");
  if (name == nullptr) return "";
  if (!name->is_string()) Refuse(path, "tokenizer_class", "a name", *name);
  return name->get<std::string>();
}

void AddProblem(const std::string& text, std::string& problems) { problems += (problems.empty() ? "" : "; ") + text; }

// An id or a list of them. A negative one is how some say "none"; what is no id is a problem and left out.
std::vector<int32_t> ReadIds(const Json& json, const char* key, const std::string& path, std::string& problems) {
  std::vector<int32_t> ids;
  const Json* value = Find(json, key);
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (IsTokenId(id)) {
      ids.push_back(id.get<int32_t>());
    } else if (!id.is_null() && !(id.is_number_integer() && id < 0)) {
      AddProblem(fmt::format("{}: {}: {} is no token id", path, key, DescribeJson(id)), problems);
    }
  }
  return ids;
}

// config.json is read by the model's loader, which says what is wrong with it and keeps one end token.
void ReadModelConfig(const std::string& path, TokenizerConfig& config) {
  try {
    const Json json = ParseObject(ReadFile(path), path);
    std::string problems;
    config.eos_ids = ReadIds(json, "eos_token_id", path, problems);
    const auto size = [&](const char* key) -> int64_t {
      const Json* value = Find(json, key);
      return value != nullptr && IsTokenId(*value) ? value->get<int64_t>() : 0;
    };
    const int64_t tokens = size("vocab_size"), multiple = std::max<int64_t>(size("pad_vocab_size_multiple"), 1);
    if (tokens > 0) config.rows = (tokens + multiple - 1) / multiple * multiple;
  } catch (const UserError&) {
    return;
  }
}

// The names under which chat models know the end of a text, a message or a call of a tool.
constexpr std::string_view kEndTokens[] = {"<|im_end|>",
                                           "<|eot_id|>",
                                           "<|eom_id|>",
                                           "<|end|>",
                                           "<|return|>",
                                           "<|call|>",
                                           "<|flush|>",
                                           "<|calls|>",
                                           "<end_of_turn>",
                                           "<turn|>",
                                           "</s>",
                                           "<|endoftext|>",
                                           "<EOT>",
                                           "_<EOT>",
                                           "[EOT]",
                                           "[EOS]",
                                           "<eos>",
                                           "<|end_of_text|>",
                                           "<|eot|>",
                                           "<|end_of_turn|>",
                                           "<end_of_utterance>",
                                           "<|endofturn|>",
                                           "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};

}  // namespace

void ReadTokenizerConfig(const std::string& content, const std::string& path, TokenizerConfig& config) {
  const Json json = ParseObject(content, path);
  ReadNamedTokens(json, path, /*replace=*/true, config);
  ReadExtraTokens(json, path, config);
  if (const Json* added = Find(json, "added_tokens_decoder")) ReadAddedTokensDecoder(*added, path, config);
  config.add_bos_token = Flag(json, path, "add_bos_token");
  config.add_eos_token = Flag(json, path, "add_eos_token");
  config.add_prefix_space = Flag(json, path, "add_prefix_space");
  config.legacy = Flag(json, path, "legacy");
  config.tokenizer_class = ReadClass(json, path);
  if (const Json* chat = Find(json, "chat_template")) ReadChatTemplate(*chat, path, config);
}

// Not needed to read or write text, so nothing in it is an error.
void ReadGenerationConfig(const std::string& content, const std::string& path, TokenizerConfig& config) {
  std::string& problems = config.generation_problems;
  try {
    const Json json = ParseObject(content, path);
    const std::vector<int32_t> bos = ReadIds(json, "bos_token_id", path, problems);
    if (!bos.empty()) config.bos_id = bos.front();
    for (const int32_t id : ReadIds(json, "eos_token_id", path, problems)) config.eos_ids.push_back(id);
  } catch (const UserError& error) {
    AddProblem(error.what(), problems);
  }
}

TokenizerConfig LoadTokenizerConfig(const std::string& directory) {
  TokenizerConfig config;
  const auto path = [&](const char* name) { return directory + "/" + name; };
  const auto has = [&](const char* name) { return PathExists(path(name)) && !IsDirectory(path(name)); };
  if (has("tokenizer_config.json")) {
    const std::string file = path("tokenizer_config.json");
    ReadTokenizerConfig(ReadFile(file), file, config);
  }
  // The older files: with added_tokens_decoder the newer one is complete.
  if (has("special_tokens_map.json")) {
    const std::string file = path("special_tokens_map.json");
    const Json map = ParseObject(ReadFile(file), file);
    ReadNamedTokens(map, file, /*replace=*/!config.has_added_tokens_decoder, config);
    if (!config.has_added_tokens_decoder) ReadExtraTokens(map, file, config);
  }
  if (has("added_tokens.json") && !config.has_added_tokens_decoder) {
    ReadAddedTokensFile(path("added_tokens.json"), config);
  }
  if (has("config.json")) ReadModelConfig(path("config.json"), config);
  if (has("generation_config.json")) {
    const std::string file = path("generation_config.json");
    ReadGenerationConfig(ReadFile(file), file, config);
  }
  if (has("chat_template.jinja")) {  // the newer place goes before the older one
    config.chat_template_file = path("chat_template.jinja");
    config.chat_template = ReadFile(config.chat_template_file);
    config.chat_templates = {{"default", config.chat_template}};
    ReadMoreTemplates(path("additional_chat_templates"), config);
    config.no_chat_template.clear();
  }
  return config;
}

std::vector<AddedToken> MergeAddedTokens(const TokenizerConfig& config, const FileTokens& file) {
  constexpr int64_t kMaxIdGap = 65536;  // bounds what a small file can allocate
  std::map<int32_t, AddedToken> tokens;
  std::map<std::string, int32_t> ids;
  int64_t next = file.size;
  const auto set = [&](AddedToken token, int32_t id) {
    if (tokens.count(id) > 0) ids.erase(tokens[id].content);
    token.id = id;
    ids[token.content] = id;
    tokens[id] = std::move(token);
    next = std::max<int64_t>(next, id + 1);
  };
  const auto find = [&](const std::string& content) {
    const auto it = ids.find(content);
    return it != ids.end() ? std::optional(it->second) : file.find(content);
  };
  const auto has_row = [&](int64_t id) { return !config.rows || id < *config.rows; };
  for (const AddedToken& token : file.added) set(token, token.id);
  for (const auto& [id, token] : config.added_tokens) {
    const bool of_file = ids.count(token.content) > 0;
    if (of_file && !config.has_added_tokens_decoder) continue;
    if (id > next + kMaxIdGap) {
      throw UserError({config.added_tokens_file, fmt::format("the id of {} is far behind the others", token.content),
                       fmt::format("at most {}", next + kMaxIdGap), std::to_string(id)});
    }
    const int64_t at = find(token.content).value_or(file.keeps(id) ? static_cast<int32_t>(next) : id);
    if (at < file.size || has_row(at)) set(token, static_cast<int32_t>(at));
  }
  std::vector<AddedToken> missing;  // transformers makes them tokens, without a row in any model, before the extra ones
  const auto find_missing = [&](const std::string& content) {
    return std::find_if(missing.begin(), missing.end(), [&](const AddedToken& t) { return t.content == content; });
  };
  for (const AddedToken& token : config.named_tokens) {
    const std::optional<int32_t> id = find(token.content);
    if (!id) {
      if (find_missing(token.content) == missing.end()) missing.push_back(token);
    } else if (tokens.count(*id) > 0) {
      tokens[*id].special = true;
    } else {
      set(token, *id);
    }
  }
  const int64_t first = next;
  int64_t behind = first + static_cast<int64_t>(missing.size());
  for (const AddedToken& token : config.extra_special_tokens) {
    const std::optional<int32_t> id = find(token.content);
    if (id && tokens.count(*id) > 0) {
      tokens[*id].special = true;
    } else if (id) {
      set(token, *id);
    } else if (!token.content.empty()) {
      const auto named = find_missing(token.content);
      const int64_t at = named != missing.end() ? first + (named - missing.begin()) : behind++;
      if (has_row(at)) set(token, static_cast<int32_t>(at));
    }
  }
  std::vector<AddedToken> list;
  for (auto& [id, token] : tokens) list.push_back(std::move(token));
  return list;
}

void ApplySpecialTokens(const TokenizerConfig& config, Tokenizer& tokenizer) {
  const auto id_of = [&](const char* key) -> std::optional<int32_t> {
    const auto it = config.special_tokens.find(key);
    return it == config.special_tokens.end() ? std::nullopt : tokenizer.TokenId(it->second);
  };
  if (const auto bos = id_of("bos_token")) tokenizer.set_bos(bos);
  if (const auto eos = id_of("eos_token")) tokenizer.set_eos(eos);
}

std::vector<int32_t> KnownEndTokens(const Tokenizer& tokenizer) {
  const auto id_of = [&](std::string_view name) -> std::optional<int32_t> {
    const std::optional<int32_t> id = tokenizer.TokenId(name);
    return id && tokenizer.IsAdded(*id) ? id : std::nullopt;
  };
  // Where <|return|> ends an answer, <|end|> ends one of its parts.
  const bool has_parts = id_of("<|return|>") && id_of("<|call|>");
  std::vector<int32_t> ids;
  for (const std::string_view name : kEndTokens) {
    const std::optional<int32_t> id = id_of(name);
    if (id && !(has_parts && name == "<|end|>")) ids.push_back(*id);
  }
  return ids;
}

std::vector<int32_t> EndOfTextIds(const TokenizerConfig& config, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = config.eos_ids;
  if (tokenizer.eos().has_value()) ids.push_back(*tokenizer.eos());
  for (const int32_t id : KnownEndTokens(tokenizer)) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

namespace {

std::vector<std::pair<std::string, std::string>> ReadThose(const std::string& directory,
                                                           std::initializer_list<const char*> names) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const char* name : names) {
    const std::string path = directory + "/" + name;
    if (PathExists(path) && !IsDirectory(path)) files.emplace_back(name, ReadFile(path));
  }
  return files;
}

// A config.json that we write names one token that ends a text; where the folder's names more, all of them get a place
// in generation_config.json.
void KeepEndTokens(const std::string& directory, std::vector<std::pair<std::string, std::string>>& files) {
  TokenizerConfig model, generation;
  if (PathExists(directory + "/config.json")) ReadModelConfig(directory + "/config.json", model);
  const auto file = std::find_if(files.begin(), files.end(),
                                 [](const auto& named) { return named.first == "generation_config.json"; });
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (file != files.end()) {
    ReadGenerationConfig(file->second, "", generation);
    json = nlohmann::ordered_json::parse(file->second, nullptr, /*allow_exceptions=*/false);
  }
  std::set<int32_t> ids(generation.eos_ids.begin(), generation.eos_ids.end());
  const size_t known = ids.size();
  ids.insert(model.eos_ids.begin(), model.eos_ids.end());
  if (ids.size() < 2 || ids.size() == known) return;
  if (!json.is_object()) json = nlohmann::ordered_json::object();
  json["eos_token_id"] = ids;
  const std::string content = json.dump(2) + "\n";
  if (file != files.end()) {
    file->second = content;
  } else {
    files.emplace_back("generation_config.json", content);
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> ReadTokenizerFiles(const std::string& directory) {
  auto files = ReadThose(directory, {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"});
  for (auto& file : ReadTokenizerConfigFiles(directory)) files.push_back(std::move(file));
  return files;
}

std::vector<std::pair<std::string, std::string>> ReadTokenizerConfigFiles(const std::string& directory) {
  auto files = ReadThose(directory, {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                     "generation_config.json", "chat_template.jinja"});
  KeepEndTokens(directory, files);
  return files;
}

}  // namespace taipan
