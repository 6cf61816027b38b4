#pragma once
// What kind of text tokens are, and how they are shown one by one.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

enum class TokenClass { kWordStart, kWordRest, kDigit, kPunctuation, kSpace, kOther };
inline std::vector<std::string> NamesOf(TokenClass) {
  return {"word start", "word continuation", "digit", "punctuation", "white space", "other"};
}

// Of consecutive tokens' bytes, each by its first character that is no white space: a letter (marks too) with no letter
// before it starts a word. A token within a character is kOther; its first byte counts as the character.
std::vector<TokenClass> TokenClasses(std::span<const std::string_view> tokens);

// Valid UTF-8 in which everything shows: a line feed as U+21B5, a tab as U+2192, ill-formed bytes as \xE2, control and
// format characters as \u{200B}.
std::string VisibleText(std::string_view bytes);

}  // namespace taipan
