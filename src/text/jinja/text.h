#pragma once
// Python's str: characters are code points, letters those of Unicode.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taipan::jinja {

bool IsPythonSpace(uint32_t code_point);
// Without white space (chars == null) or any of the characters of `chars`, on the sides asked for.
std::string_view Strip(std::string_view text, bool left, bool right, const std::string_view* chars = nullptr);
// Length in bytes of the character at text[at]; a byte that is no valid start counts as one.
size_t CharacterLength(std::string_view text, size_t at);
// Where each character begins, and the end of the text.
std::vector<size_t> CharacterStarts(std::string_view text);
size_t CountCharacters(std::string_view text);
std::vector<std::string_view> Characters(std::string_view text);
// Of one character; nothing for a byte that is part of none.
std::optional<uint32_t> CodePoint(std::string_view character);

// Unicode's full mappings, as str.upper() and the like have them.
std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalized(std::string_view text);
std::string TitleCased(std::string_view text);
std::string SwappedCase(std::string_view text);
std::string CaseFolded(std::string_view text);

enum class CharacterClass { kAlpha, kDigit, kDecimal, kNumeric, kAlnum, kLower, kUpper, kTitle, kPrintable, kCased };
bool IsOf(uint32_t code_point, CharacterClass one);

// str.splitlines().
std::vector<std::string> SplitLines(std::string_view text, bool keep_ends);

// int(text, base) and float(text); nothing where Python raises a ValueError, too_large where it does not fit.
struct ParsedInteger {
  std::optional<int64_t> value;
  bool too_large = false;
};
ParsedInteger ParseInteger(std::string_view text, int64_t base);
std::optional<double> ParseFloat(std::string_view text);

}  // namespace taipan::jinja
