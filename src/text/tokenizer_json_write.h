#pragma once
// Writes tokenizer.json for byte-level BPE, as Hugging Face's libraries read it.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "text/added_tokens.h"

namespace taipan {

struct ByteLevelBpeFile {
  std::vector<std::pair<std::string, int64_t>> vocab;  // spellings, each once, and ids; added tokens too
  std::vector<AddedToken> added;                       // the library finds their ids by `vocab`
  std::vector<std::string> merges;                     // "LEFT RIGHT", by rank
  nlohmann::ordered_json pre_tokenizer, post_processor;
  bool ignore_merges = false;
};
// All texts are valid UTF-8.
std::string WriteTokenizerJson(ByteLevelBpeFile file);

// An entry of added_tokens.
nlohmann::ordered_json AddedTokenJson(const AddedToken& token);
// The ByteLevel entry of pre_tokenizer and decoder; use_regex: it cuts GPT-2's words.
nlohmann::ordered_json ByteLevelEntry(bool use_regex);

}  // namespace taipan
