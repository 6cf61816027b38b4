#include "cli/gguf_tokenizer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

// tokenizer.json as it is stored: tokens in the order of their ids. False where it is no byte-level BPE.
bool ReadBpe(const std::string& path, int64_t vocab_size, GgufVocabulary& v) {
  const std::string content = ReadFile(path);
  const Json json = ParseJson(content, path);
  const Json model = json.value("model", Json::object());
  if (!model.contains("vocab") || !model["vocab"].is_object() || !model.contains("merges")) return false;
  if (model.value("byte_fallback", false) || content.find("\"ByteLevel\"") == std::string::npos) return false;
  v.model = "gpt2";
  v.tokens.resize(static_cast<size_t>(vocab_size));
  v.types.assign(static_cast<size_t>(vocab_size), kUnused);
  const auto set = [&](const Json& id, const std::string& text, int32_t type) {
    const size_t at = id.get<size_t>();
    if (at >= v.tokens.size()) return;
    v.tokens[at] = text;
    v.types[at] = type;
  };
  for (const auto& [text, id] : model["vocab"].items()) set(id, text, kNormal);
  for (const Json& token : json.value("added_tokens", Json::array())) {
    set(token.at("id"), token.at("content"), token.value("special", false) ? kControl : kUserDefined);
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.types[i] == kUnused) v.tokens[i] = fmt::format("[PAD{}]", i);
  }
  for (const Json& merge : model["merges"]) {
    v.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                         : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  return true;
}

// Texts that the known word patterns cut differently.
constexpr const char* kProbe =
    "Hello  World's don't DON'T 1 12 123 1234567 3.14\n\n  x\t\ty \r\n caf\u00e9 na\u00efve $a+b=c; foo_bar(baz) /* "
    "... */ "
    "https://example.org/a?b=1 \u65e5\u672c\u8a9e \u0645\u0631\u062d\u0628\u0627 \U0001f600!!  \n    return 0;\n";

// The name of llama.cpp's word pattern under which the vocabulary gives the tokenizer's ids; "" where none does.
std::string FindPre(GgufVocabulary v, const Tokenizer& tokenizer) {
  const std::vector<int32_t> expected = tokenizer.Encode(kProbe);
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "dbrx", "glm4", "qwen2", "tekken", "falcon", "default"}) {
    v.pre = pre;
    v.add_bos = false;
    if (MakeGgufTokenizer(v, pre)->Encode(kProbe) == expected) return pre;
  }
  return "";
}

}  // namespace

GgufMetadata VocabularyMetadata(const std::string& folder, int64_t vocab_size, std::string& reason) {
  const std::string path = folder + "/tokenizer.json";
  reason = "no tokenizer.json";
  if (!PathExists(path)) return {};
  const std::unique_ptr<Tokenizer> tokenizer = LoadTokenizer(folder);  // checks the file
  GgufVocabulary v;
  reason = "its tokenizer is no byte-level BPE";
  if (tokenizer == nullptr || tokenizer->vocab_size() > vocab_size) return {};
  if (!ReadBpe(path, vocab_size, v)) return {};
  reason = "llama.cpp has no word pattern that cuts text like its tokenizer";
  const std::string pre = FindPre(v, *tokenizer);
  if (pre.empty()) return {};
  GgufMetadata metadata = {{"tokenizer.ggml.model", v.model},
                           {"tokenizer.ggml.pre", pre},
                           {"tokenizer.ggml.tokens", GgufArray{v.tokens}},
                           {"tokenizer.ggml.token_type", GgufArray{v.types}},
                           {"tokenizer.ggml.merges", GgufArray{v.merges}}};
  const TokenizerConfig config = LoadTokenizerConfig(folder);
  const auto id = [&](const char* key, const std::optional<int32_t>& value) {
    if (value) metadata[key] = static_cast<uint32_t>(*value);
  };
  id("tokenizer.ggml.bos_token_id", tokenizer->bos());
  id("tokenizer.ggml.eos_token_id", tokenizer->eos());
  const std::vector<int32_t> plain = tokenizer->Encode("a"),
                             whole = tokenizer->Encode("a", {.add_special_tokens = true});
  metadata["tokenizer.ggml.add_bos_token"] = !whole.empty() && whole.front() != plain.front();
  metadata["tokenizer.ggml.add_eos_token"] = !whole.empty() && whole.back() != plain.back();
  if (!config.chat_template.empty()) metadata["tokenizer.chat_template"] = config.chat_template;
  reason.clear();
  return metadata;
}

}  // namespace taipan
