#pragma once
// The texts of special tokens inside of a text.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace taipan {

class SpecialTokens {
 public:
  SpecialTokens() = default;
  // Spelling and id of each; empty spellings are left out.
  explicit SpecialTokens(std::vector<std::pair<std::string, int32_t>> tokens);

  // Cuts the text at the leftmost special token, the longest one of those that begin there, and so on: calls
  // on_text for what lies between (never empty) and on_token, in the order of the text.
  void Split(std::string_view text, const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t)>& on_token) const;

 private:
  std::array<std::vector<std::pair<std::string, int32_t>>, 256> by_first_byte_;  // each longest first
};

}  // namespace taipan
