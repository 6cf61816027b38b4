#include "text/unicode/newer_characters.h"

#include <fmt/format.h>

#include <algorithm>

namespace taipan {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool SameLetters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return Lower(x) == Lower(y); });
}

}  // namespace

std::string_view NewerCategory(uint32_t c) {
  const std::span<const NewerCharacters> all = AllNewerCharacters();
  const auto behind =
      std::upper_bound(all.begin(), all.end(), c, [](uint32_t x, const NewerCharacters& r) { return x < r.first; });
  return behind != all.begin() && c <= behind[-1].last ? behind[-1].category : "";
}

std::string NewerMembers(std::string_view property) {
  std::string members;
  if (property.empty()) return members;
  for (const NewerCharacters& range : AllNewerCharacters()) {
    if (SameLetters(property, range.category) || SameLetters(property, range.category.substr(0, 1)) ||
        SameLetters(property, range.script)) {
      members += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", range.first, range.last);
    }
  }
  return members;
}

}  // namespace taipan
