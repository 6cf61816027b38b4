#include "infer/model_text.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "formats/gguf.h"
#include "infer/gguf_text.h"
#include "text/token_names.h"
#include "text/tokenizer_config.h"

namespace taipan {
namespace {

ModelText FromGguf(const GgufFile& file) {
  ModelText text;
  if (!HasVocabulary(file)) return text;
  const GgufVocabulary vocabulary = ReadGgufVocabulary(file);
  text.tokenizer = MakeGgufTokenizer(vocabulary, file.path());
  text.stop_tokens = KnownEndTokens(*text.tokenizer);
  for (const auto& id : {vocabulary.eos, vocabulary.eot}) {
    if (id.has_value()) text.stop_tokens.push_back(*id);
  }
  text.stop_tokens.insert(text.stop_tokens.end(), vocabulary.stops.begin(), vocabulary.stops.end());
  text.chat_template = vocabulary.chat_template;
  text.chat_template_file = file.path() + ": tokenizer.chat_template";
  text.special_tokens = SpecialTokenTexts(vocabulary);
  return text;
}

// A folder, or a tokenizer file with what stands beside it.
ModelText FromFiles(const std::string& path) {
  ModelText text;
  text.tokenizer = LoadTokenizer(path);
  if (!text.tokenizer || path == "byte") return text;
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const TokenizerConfig config = LoadTokenizerConfig(IsDirectory(path) ? path : parent.empty() ? "." : parent);
  text.stop_tokens = EndOfTextIds(config, *text.tokenizer);
  text.chat_template = config.chat_template;
  text.chat_template_file = config.chat_template_file;
  text.no_chat_template = config.no_chat_template;
  text.special_tokens = NamesOfTokens(config, *text.tokenizer);
  text.problems = config.generation_problems;
  return text;
}

ModelText OfModel(const std::string& path) {
  const std::string found = FindModel(path);
  return IsGgufPath(found) ? FromGguf(GgufFile(found)) : FromFiles(found.empty() ? path : found);
}

// Of a tokenizer's file or folder, or of what leads to a model.
ModelText OfTokenizer(const std::string& path) {
  const bool files = path == "byte" || (IsDirectory(path) ? HasTokenizer(path) : !IsGgufPath(path));
  return files ? FromFiles(path) : OfModel(path);
}

}  // namespace

std::unique_ptr<Tokenizer> LoadAnyTokenizer(const std::string& path) { return OfTokenizer(path).tokenizer; }

ModelText LoadModelText(const Checkpoint& model, const std::string& tokenizer) {
  const ModelConfig& config = model.config;
  const std::string& path = tokenizer.empty() ? model.path : tokenizer;
  ModelText text = !tokenizer.empty() ? OfTokenizer(tokenizer)
                   : model.gguf       ? FromGguf(*model.gguf)
                                      : FromFiles(model.path);
  if (!tokenizer.empty() && !model.gguf) {
    const std::vector<int32_t> ids =
        LoadTokenizerConfig(model.path).eos_ids;  // the model's own ids of ends still count
    text.stop_tokens.insert(text.stop_tokens.end(), ids.begin(), ids.end());
  }
  if (config.eos_token_id) text.stop_tokens.push_back(static_cast<int32_t>(*config.eos_token_id));
  std::sort(text.stop_tokens.begin(), text.stop_tokens.end());
  text.stop_tokens.erase(std::unique(text.stop_tokens.begin(), text.stop_tokens.end()), text.stop_tokens.end());
  if (!text.tokenizer) return text;
  if (text.tokenizer->vocab_size() > config.vocab_size) {
    throw UserError({path, "the tokenizer has more tokens than the model", fmt::format("at most {}", config.vocab_size),
                     fmt::format("{}", text.tokenizer->vocab_size())});
  }
  if (!text.tokenizer->bos() && config.bos_token_id)
    text.tokenizer->set_bos(static_cast<int32_t>(*config.bos_token_id));
  if (!text.tokenizer->eos() && config.eos_token_id)
    text.tokenizer->set_eos(static_cast<int32_t>(*config.eos_token_id));
  return text;
}

}  // namespace taipan
