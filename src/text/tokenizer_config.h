#pragma once
// What Hugging Face writes beside a tokenizer: tokenizer_config.json, special_tokens_map.json, added_tokens.json,
// generation_config.json and chat_template.jinja, read once and merged as transformers merges them.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace taipan {

struct TokenizerConfig {
  std::map<std::string, std::string> special_tokens;  // "bos_token", "eos_token", ...: their texts
  std::vector<AddedToken> named_tokens;               // the same with their flags; ids are not known here
  std::vector<AddedToken> extra_special_tokens;       // without a name; ids likewise
  std::map<int32_t, AddedToken> added_tokens;         // added_tokens_decoder, else added_tokens.json, by id
  bool has_added_tokens_decoder = false;              // then it goes before the tokens of tokenizer.json
  std::string added_tokens_file;                      // where they stand, for errors
  std::optional<bool> add_bos_token, add_eos_token, add_prefix_space;
  std::optional<bool> legacy;      // SentencePiece: a space stands before every stretch of text, not the first alone
  std::string tokenizer_class;     // "" where not given
  std::string chat_template;       // Jinja, "" where there is none (see ChatTemplate)
  std::string chat_template_file;  // where it stands, for errors
  std::map<std::string, std::string> chat_templates;  // by name where there are several, "default" and "tool_use" say
  std::string no_chat_template;                       // why what the files have cannot be used, "" for nothing
  std::optional<int64_t> rows;      // of the model's embedding, by config.json: added tokens behind them are none
  std::optional<int32_t> bos_id;    // of generation_config.json
  std::vector<int32_t> eos_ids;     // of config.json and generation_config.json; each ends an answer
  std::string generation_problems;  // what of generation_config.json was left out, "" for nothing
};

// Reads those of the files that the folder has; keys that do not concern tokens are skipped. UserError for a damaged
// file or a value of another type where that would change ids; what only some uses need is kept as a problem.
TokenizerConfig LoadTokenizerConfig(const std::string& directory);

// The files of a folder that concern text, as (name, content): a copy of a model keeps them.
std::vector<std::pair<std::string, std::string>> ReadTokenizerFiles(const std::string& directory);
// The same without those that hold a vocabulary.
std::vector<std::pair<std::string, std::string>> ReadTokenizerConfigFiles(const std::string& directory);
// The single files, added to `config`; `path` is for errors.
void ReadTokenizerConfig(const std::string& content, const std::string& path, TokenizerConfig& config);
void ReadGenerationConfig(const std::string& content, const std::string& path, TokenizerConfig& config);

// What a vocabulary file says by itself.
struct FileTokens {
  std::vector<AddedToken> added;                                       // those it cuts out of a text
  std::function<std::optional<int32_t>(const std::string&)> find;      // any token by its spelling
  int64_t size = 0;                                                    // ids below are its own
  std::function<bool(int32_t)> keeps = [](int32_t) { return false; };  // whether an id's spelling cannot be changed
};
// The tokens that are cut out of a text, by id: the file's and the configuration's, with the configuration's flags. A
// token whose spelling the file has keeps that id. A token that is only named is none where the file lacks it; extra
// special tokens that it lacks follow behind all others; none has an id behind the model's rows. UserError for an id
// far behind the others.
std::vector<AddedToken> MergeAddedTokens(const TokenizerConfig& config, const FileTokens& file);

// Sets bos and eos from the texts of bos_token and eos_token, where the files name them and the vocabulary has them.
void ApplySpecialTokens(const TokenizerConfig& config, Tokenizer& tokenizer);

// Ids after which generation stops: eos_ids, the tokenizer's eos, and the added tokens that
// are known to end a text or a turn; each once.
std::vector<int32_t> EndOfTextIds(const TokenizerConfig& config, const Tokenizer& tokenizer);
// The last of these.
std::vector<int32_t> KnownEndTokens(const Tokenizer& tokenizer);

}  // namespace taipan
