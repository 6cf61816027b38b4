#include "infer/model_text.h"

#include <algorithm>

#include "base/error.h"
#include "formats/gguf.h"
#include "infer/gguf_text.h"
#include "model/checkpoint.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

ModelText FromGguf(const std::string& path) {
  const GgufFile file(path);
  ModelText text;
  if (!HasVocabulary(file)) return text;
  const GgufVocabulary vocabulary = ReadGgufVocabulary(file);
  text.tokenizer = MakeGgufTokenizer(vocabulary, path);
  for (const auto& id : {vocabulary.eos, vocabulary.eot}) {
    if (id.has_value()) text.stop_tokens.push_back(*id);
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
  const std::string found = FindModel(path);
  ModelText text = IsGgufPath(found) ? FromGguf(found) : FromFolder(found.empty() ? path : found);
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
