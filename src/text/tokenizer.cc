#include "text/tokenizer.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "text/sentencepiece/sentencepiece_tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_json_write.h"
#include "text/unicode/byte_alphabet.h"
#include "text/unicode/utf8.h"
#include "text/vocabulary_files.h"

namespace taipan {
namespace {

constexpr std::array<char, 256> kAllBytes = [] {
  std::array<char, 256> bytes{};
  for (int b = 0; b < 256; ++b) bytes[static_cast<size_t>(b)] = static_cast<char>(b);
  return bytes;
}();

// In the order of preference.
constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};

// The one that ByteTokenizerJson writes, whatever its keys that change nothing say. `json` was read without complaint.
bool IsByteTokenizer(const Json& json) {
  const auto is_empty = [](const Json& object, const char* key) {
    const auto it = object.find(key);
    return it == object.end() || it->empty();  // null is empty too
  };
  const auto is_byte_level = [&](const char* key) { return !is_empty(json, key) && json[key]["type"] == "ByteLevel"; };
  const Json& model = json["model"];
  if (!is_empty(json, "normalizer") || !is_empty(json, "added_tokens") || !is_empty(model, "merges")) return false;
  if (!is_empty(json, "post_processor") && !is_byte_level("post_processor")) return false;
  if (!is_byte_level("pre_tokenizer") || !is_byte_level("decoder")) return false;
  if (json["pre_tokenizer"]["add_prefix_space"] == true || model["vocab"].size() != 256) return false;
  for (int b = 0; b < 256; ++b) {
    const auto it = model["vocab"].find(ByteAlphabet()[static_cast<size_t>(b)]);
    if (it == model["vocab"].end() || *it != b) return false;
  }
  return true;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, slash);
}

std::unique_ptr<Tokenizer> FromJson(const std::string& text, const std::string& path, const TokenizerConfig& config) {
  Json json = ParseJson(text, path);
  const auto model = json.find("model");  // an id in a vocab.json that has such a token
  if (json.is_object() && (model == json.end() || model->is_number())) {
    const std::string merges = FolderOf(path) + "/merges.txt";
    if (PathExists(merges)) return MakeGpt2Tokenizer({text, path}, {ReadFile(merges), merges}, config);
  }
  MergeIntoTokenizerJson(config, path, json);
  std::unique_ptr<Tokenizer> tokenizer = ReadTokenizerJson(json, path);
  if (IsByteTokenizer(json)) return std::make_unique<ByteTokenizer>();
  return tokenizer;
}

// The kind of file by its content: names vary. JSON opens with a brace, the other kinds never do.
std::unique_ptr<Tokenizer> LoadFile(const std::string& path) {
  const std::string text = ReadFile(path);
  const TokenizerConfig config = LoadTokenizerConfig(FolderOf(path));
  std::unique_ptr<Tokenizer> tokenizer;
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start != text.npos && text[start] == '{') {
    tokenizer = FromJson(text, path, config);
  } else if (LooksLikeSentencePiece(text)) {
    tokenizer = MakeSentencePieceTokenizer(text, path, OptionsOf(config));
  } else if (LooksLikeTiktoken(text)) {
    tokenizer = MakeTiktokenTokenizer(text, path, config);
  } else {
    throw UserError({path, "this kind of tokenizer is not supported",
                     "a tokenizer.json, vocab.json, SentencePiece or tiktoken file", "none of these"});
  }
  ApplySpecialTokens(config, *tokenizer);
  return tokenizer;
}

class PlainDecoder : public TokenDecoder {
 public:
  explicit PlainDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  void Append(int32_t id, std::string& bytes) override { bytes += tokenizer_.TokenBytes(id); }
  void Flush(std::string&) override {}

 private:
  const Tokenizer& tokenizer_;
};

}  // namespace

std::unique_ptr<TokenDecoder> Tokenizer::NewDecoder() const { return std::make_unique<PlainDecoder>(*this); }

std::string Tokenizer::Decode(std::span<const int32_t> ids) const {
  const std::unique_ptr<TokenDecoder> decoder = NewDecoder();
  std::string bytes;
  for (const int32_t id : ids) decoder->Append(id, bytes);
  decoder->Flush(bytes);
  return bytes;
}

std::string DecodeStream::Append(int32_t id) {
  std::string bytes;
  decoder_->Append(id, bytes);
  return utf8_.Append(bytes);
}

std::string DecodeStream::Flush() {
  std::string bytes;
  decoder_->Flush(bytes);
  return utf8_.Append(bytes) + utf8_.Flush();
}

std::vector<int32_t> EncodeStream::Append(std::string_view bytes) {
  held_ += bytes;
  if (held_.size() < next_try_) return {};
  const size_t cut = tokenizer_.CutIn(held_, options_);
  if (cut == 0) {
    next_try_ = 2 * held_.size();
    return {};
  }
  EncodeOptions options = options_;
  options.ends = false;
  std::vector<int32_t> ids = tokenizer_.Encode(std::string_view(held_).substr(0, cut), options);
  options_.begins = false;
  held_.erase(0, cut);
  next_try_ = enough_;
  return ids;
}

std::vector<int32_t> EncodeStream::Finish() {
  std::vector<int32_t> ids = tokenizer_.Encode(held_, options_);
  held_.clear();
  return ids;
}

std::vector<int32_t> ByteTokenizer::Encode(std::string_view text, const EncodeOptions&) const {
  std::vector<int32_t> ids(text.size());
  for (size_t i = 0; i < text.size(); ++i) ids[i] = static_cast<uint8_t>(text[i]);
  return ids;
}

std::optional<int32_t> ByteTokenizer::TokenId(std::string_view spelling) const {
  const std::optional<std::string> byte = UnspellBytes(spelling);
  return byte && byte->size() == 1 ? std::optional<int32_t>(static_cast<uint8_t>((*byte)[0])) : std::nullopt;
}

std::string_view ByteTokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id > 255) throw UserError({"token id", "not in the vocabulary", "0 to 255", std::to_string(id)});
  return {kAllBytes.data() + id, 1};
}

std::string ByteTokenizerJson() {
  ByteLevelBpeFile file;
  for (int b = 0; b < 256; ++b) file.vocab.emplace_back(ByteAlphabet()[static_cast<size_t>(b)], b);
  file.pre_tokenizer = ByteLevelEntry(false);
  return WriteTokenizerJson(std::move(file));
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
