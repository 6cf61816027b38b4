#pragma once
// The names that stand for tokens in chat templates.

#include <map>
#include <string>

#include "text/tokenizer_config.h"

namespace taipan {

// "bos_token" and the like with their texts, and those that no file names.
std::map<std::string, std::string> NamesOfTokens(const TokenizerConfig& config, const Tokenizer& tokenizer);

}  // namespace taipan
