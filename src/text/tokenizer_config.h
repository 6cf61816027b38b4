#pragma once
// What Hugging Face writes beside a tokenizer: tokenizer_config.json, special_tokens_map.json, generation_config.json
// and chat_template.jinja.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace taipan {

struct TokenizerConfig {
  struct AddedToken {
    std::string text;
    bool special = false;
  };
  std::map<std::string, std::string> special_tokens;  // "bos_token", "eos_token", ...: their texts
  std::map<int32_t, AddedToken> added_tokens;         // added_tokens_decoder, by id
  std::optional<bool> add_bos_token, add_eos_token;
  std::string tokenizer_class;                        // "" where not given
  std::string chat_template;                          // Jinja, "" where there is none (see ChatTemplate)
  std::string chat_template_file;                     // where it stands, for errors
  std::map<std::string, std::string> chat_templates;  // by name where there are several, "default" and "tool_use" say
  std::optional<int32_t> bos_id;                      // of generation_config.json
  std::vector<int32_t> eos_ids;                       // the same; each ends an answer
};

// Reads those of the files that the folder has; keys that do not concern tokens are skipped. UserError for a damaged
// file or a value of another type.
TokenizerConfig LoadTokenizerConfig(const std::string& directory);

// The files of a folder that concern text, as (name, content): a copy of a model keeps them.
std::vector<std::pair<std::string, std::string>> ReadTokenizerFiles(const std::string& directory);
// The single files, added to `config`; `path` is for errors.
void ReadTokenizerConfig(const std::string& content, const std::string& path, TokenizerConfig& config);
void ReadGenerationConfig(const std::string& content, const std::string& path, TokenizerConfig& config);

// Sets bos and eos from the texts of bos_token and eos_token, where the files name them and the vocabulary has them.
// UserError naming `where` for a text that the vocabulary lacks.
void ApplySpecialTokens(const TokenizerConfig& config, const std::string& where, Tokenizer& tokenizer);

// Ids after which generation stops: those of generation_config.json and the tokenizer's eos, each once.
std::vector<int32_t> EndOfTextIds(const TokenizerConfig& config, const Tokenizer& tokenizer);

}  // namespace taipan
