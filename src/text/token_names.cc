#include "text/token_names.h"

namespace taipan {

std::map<std::string, std::string> NamesOfTokens(const TokenizerConfig& config, const Tokenizer& tokenizer) {
  std::map<std::string, std::string> names = config.special_tokens;
  std::erase_if(names, [&](const auto& name) { return !tokenizer.TokenId(name.second); });
  for (const auto& [name, id] : {std::pair("bos_token", tokenizer.bos()), std::pair("eos_token", tokenizer.eos())}) {
    if (id && tokenizer.IsSpecial(*id)) names.try_emplace(name, tokenizer.TokenBytes(*id));
  }
  return names;
}

}  // namespace taipan
