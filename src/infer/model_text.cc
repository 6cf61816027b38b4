#include "infer/model_text.h"

#include <algorithm>

#include "base/error.h"
#include "formats/gguf.h"
#include "model/checkpoint.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer_config.h"

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
  v.add_bos = FlagKey(file, prefix + "add_bos_token");
  v.add_eos = FlagKey(file, prefix + "add_eos_token");
  v.add_space_prefix = FlagKey(file, prefix + "add_space_prefix");
  v.chat_template = file.GetString("tokenizer.chat_template", "");
  return v;
}

namespace {

ModelText FromGguf(const std::string& path) {
  const GgufFile file(path);
  ModelText text;
  const std::string model = file.GetString("tokenizer.ggml.model", "no_vocab");
  if (model == "no_vocab" || model == "none") return text;
  const GgufVocabulary vocabulary = ReadGgufVocabulary(file);
  text.tokenizer = MakeGgufTokenizer(vocabulary, path);
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (const auto id = TokenKey(file, key)) text.stop_tokens.push_back(*id);
  }
  text.chat_template = vocabulary.chat_template;
  text.chat_template_file = path + ": tokenizer.chat_template";
  text.special_tokens = SpecialTokenTexts(vocabulary);
  return text;
}

ModelText FromFolder(const std::string& folder) {
  ModelText text;
  text.tokenizer = LoadTokenizer(folder);
  if (!text.tokenizer) return text;
  const TokenizerConfig config = LoadTokenizerConfig(folder);
  text.stop_tokens = EndOfTextIds(config, *text.tokenizer);
  text.chat_template = config.chat_template;
  text.chat_template_file = config.chat_template_file;
  text.special_tokens = config.special_tokens;
  return text;
}

}  // namespace

ModelText LoadModelText(const std::string& path, const ModelConfig& config) {
  ModelText text = IsGgufPath(path) ? FromGguf(path) : FromFolder(path);
  if (config.eos_token_id) text.stop_tokens.push_back(static_cast<int32_t>(*config.eos_token_id));
  std::sort(text.stop_tokens.begin(), text.stop_tokens.end());
  text.stop_tokens.erase(std::unique(text.stop_tokens.begin(), text.stop_tokens.end()), text.stop_tokens.end());
  if (!text.tokenizer) return text;
  if (text.tokenizer->vocab_size() > config.vocab_size) {
    throw UserError({path, "the tokenizer has more tokens than the model", fmt::format("at most {}", config.vocab_size),
                     fmt::format("{}", text.tokenizer->vocab_size()), ""});
  }
  if (!text.tokenizer->bos() && config.bos_token_id)
    text.tokenizer->set_bos(static_cast<int32_t>(*config.bos_token_id));
  if (!text.tokenizer->eos() && config.eos_token_id)
    text.tokenizer->set_eos(static_cast<int32_t>(*config.eos_token_id));
  return text;
}

}  // namespace taipan
