#include "text/tokenizer.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "text/utf8.h"

namespace taipan {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<char, 256> kAllBytes = [] {
  std::array<char, 256> bytes{};
  for (int b = 0; b < 256; ++b) bytes[static_cast<size_t>(b)] = static_cast<char>(b);
  return bytes;
}();

// In the order of preference.
constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};

// GPT-2 spells a byte as a printable character: itself where it is one in Latin-1, else the next one from U+0100 on.
std::array<std::string, 256> ByteLevelCharacters() {
  std::array<std::string, 256> characters;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
    characters[b] = EncodeUtf8(printable ? b : next++);
  }
  return characters;
}

// Null or absent members count as not there.
const Json* Member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

bool IsEmpty(const Json* value) { return value == nullptr || (value->is_array() && value->empty()); }

bool IsTrue(const Json& object, const char* name) {
  const Json* value = Member(object, name);
  return value != nullptr && *value == true;
}

bool IsByteLevel(const Json* part) {
  const Json* type = part != nullptr ? Member(*part, "type") : nullptr;
  return type != nullptr && *type == "ByteLevel";
}

// What makes this another tokenizer than the byte-level one without merges; "" where nothing does.
std::string DifferenceToBytes(const Json& json) {
  const Json* model = Member(json, "model");
  if (model == nullptr) return "no model";
  const Json* type = Member(*model, "type");
  if (type != nullptr && *type != "BPE") return "a model of another type than BPE";
  if (!IsEmpty(Member(*model, "merges"))) return "BPE merges";
  for (const char* changes_text : {"normalizer", "post_processor", "added_tokens"}) {
    const Json* part = Member(json, changes_text);
    const bool harmless = IsEmpty(part) || (IsByteLevel(part) && std::string_view(changes_text) == "post_processor");
    if (!harmless) return std::string("entries in ") + changes_text;
  }
  const Json* pre = Member(json, "pre_tokenizer");
  if (!IsByteLevel(pre)) return "a pre_tokenizer that is not ByteLevel";
  if (IsTrue(*pre, "add_prefix_space")) return "add_prefix_space";
  if (!IsByteLevel(Member(json, "decoder"))) return "a decoder that is not ByteLevel";
  const Json* vocab = Member(*model, "vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->size() != 256) return "a vocabulary of another size than 256";
  const auto characters = ByteLevelCharacters();
  for (int b = 0; b < 256; ++b) {
    const auto it = vocab->find(characters[static_cast<size_t>(b)]);
    if (it == vocab->end() || *it != b) return "a vocabulary that is not in the order of the bytes";
  }
  return "";
}

std::unique_ptr<Tokenizer> LoadFile(const std::string& path) {
  const std::string text = ReadFile(path);
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::exception&) {
    throw UserError({path, "cannot read this tokenizer: only byte tokenizers are supported in this version",
                     "a tokenizer.json", "a file that is not JSON", ""});
  }
  const std::string difference = DifferenceToBytes(json);
  if (difference.empty()) return std::make_unique<ByteTokenizer>();
  throw UserError({path, "only byte tokenizers are supported in this version",
                   "byte-level BPE without merges, vocabulary in the order of the bytes", difference, ""});
}

}  // namespace

std::string Tokenizer::Decode(std::span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids) bytes += TokenBytes(id);
  return bytes;
}

std::vector<int32_t> ByteTokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> ids(text.size());
  for (size_t i = 0; i < text.size(); ++i) ids[i] = static_cast<uint8_t>(text[i]);
  return ids;
}

std::string_view ByteTokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id > 255) throw UserError({"token id", "not in the vocabulary", "0 to 255", std::to_string(id), ""});
  return {kAllBytes.data() + id, 1};
}

std::string ByteTokenizerJson() {
  Json vocab = Json::object();
  const auto characters = ByteLevelCharacters();
  for (int b = 0; b < 256; ++b) vocab[characters[static_cast<size_t>(b)]] = b;
  const auto byte_level = [](bool use_regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
  };
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array()},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level(false)},
                     {"post_processor", nullptr},
                     {"decoder", byte_level(true)},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false},
                       {"vocab", std::move(vocab)},
                       {"merges", Json::array()}}}};
  return json.dump(2) + "\n";
}

bool HasTokenizer(const std::string& directory) {
  for (const char* name : kTokenizerFiles) {
    if (PathExists(directory + "/" + name)) return true;
  }
  return false;
}

std::unique_ptr<Tokenizer> LoadTokenizer(const std::string& path_or_directory) {
  if (path_or_directory == "byte") return std::make_unique<ByteTokenizer>();
  if (!IsDirectory(path_or_directory)) return LoadFile(path_or_directory);
  for (const char* name : kTokenizerFiles) {
    const std::string path = path_or_directory + "/" + name;
    if (PathExists(path)) return LoadFile(path);
  }
  return nullptr;
}

}  // namespace taipan
