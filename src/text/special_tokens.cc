#include "text/special_tokens.h"

#include <algorithm>

namespace taipan {

SpecialTokens::SpecialTokens(std::vector<std::pair<std::string, int32_t>> tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  for (auto& token : tokens) {
    if (!token.first.empty()) by_first_byte_[static_cast<uint8_t>(token.first[0])].push_back(std::move(token));
  }
}

void SpecialTokens::Split(std::string_view text, const std::function<void(std::string_view)>& on_text,
                          const std::function<void(int32_t)>& on_token) const {
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const auto& candidates = by_first_byte_[static_cast<uint8_t>(text[i])];
    const auto found = std::find_if(candidates.begin(), candidates.end(),
                                    [&](const auto& token) { return text.substr(i).starts_with(token.first); });
    if (found == candidates.end()) {
      ++i;
      continue;
    }
    if (i > begin) on_text(text.substr(begin, i - begin));
    on_token(found->second);
    begin = i += found->first.size();
  }
  if (begin < text.size()) on_text(text.substr(begin));
}

}  // namespace taipan
