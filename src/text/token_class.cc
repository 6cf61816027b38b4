#include "text/token_class.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>

#include "text/unicode/utf8.h"

namespace taipan {
namespace {

enum class CharacterKind : uint8_t {
  kInside,
  kLetter,
  kDigit,
  kPunctuation,
  kSpace,
  kOther
};  // kInside: of a character

utf8proc_category_t CategoryOf(std::string_view character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(DecodeUtf8(character)));
}

CharacterKind KindOf(std::string_view character) {
  if (LeadingSpaces(character) > 0) return CharacterKind::kSpace;
  const utf8proc_category_t category = CategoryOf(character);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ME) return CharacterKind::kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return CharacterKind::kDigit;
  if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_SO) return CharacterKind::kPunctuation;
  return CharacterKind::kOther;
}

// A byte each.
std::vector<CharacterKind> KindsOf(std::string_view text) {
  std::vector<CharacterKind> kinds(text.size(), CharacterKind::kInside);
  for (size_t at = 0; at < text.size();) {
    const size_t size = Utf8CharacterSize(text.substr(at));
    kinds[at] = size > 0 ? KindOf(text.substr(at, size)) : CharacterKind::kOther;
    at += std::max<size_t>(size, 1);
  }
  return kinds;
}

TokenClass ClassOf(CharacterKind kind, CharacterKind before) {
  switch (kind) {
    case CharacterKind::kLetter:
      return before == CharacterKind::kLetter ? TokenClass::kWordRest : TokenClass::kWordStart;
    case CharacterKind::kDigit:
      return TokenClass::kDigit;
    case CharacterKind::kPunctuation:
      return TokenClass::kPunctuation;
    case CharacterKind::kSpace:
      return TokenClass::kSpace;
    default:
      return TokenClass::kOther;
  }
}

}  // namespace

std::vector<TokenClass> TokenClasses(std::span<const std::string_view> tokens) {
  std::string text;
  for (const std::string_view token : tokens) text += token;
  const std::vector<CharacterKind> kinds = KindsOf(text);
  std::vector<TokenClass> classes;
  CharacterKind before = CharacterKind::kSpace;  // of the last character
  size_t at = 0;
  for (const std::string_view token : tokens) {
    TokenClass found = TokenClass::kOther;
    bool settled = false;
    for (const size_t end = at + token.size(); at < end; ++at) {
      const CharacterKind kind = kinds[at];
      if (kind == CharacterKind::kInside) continue;
      if (!settled) {
        found = ClassOf(kind, before);
        settled = kind != CharacterKind::kSpace;
      }
      before = kind;
    }
    classes.push_back(found);
  }
  return classes;
}

std::string VisibleText(std::string_view bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = Utf8CharacterSize(bytes.substr(at));
    if (size == 0) {
      text += fmt::format("\\x{:02X}", static_cast<uint8_t>(bytes[at++]));
      continue;
    }
    const std::string_view character = bytes.substr(at, size);
    const utf8proc_category_t category = CategoryOf(character);
    if (character == "\n") {
      text += "\u21B5";
    } else if (character == "\t") {
      text += "\u2192";
    } else if (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
               category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP) {
      text += fmt::format("\\u{{{:X}}}", DecodeUtf8(character));
    } else {
      text += character;
    }
    at += size;
  }
  return text;
}

}  // namespace taipan
