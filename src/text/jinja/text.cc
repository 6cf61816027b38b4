#include "text/jinja/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "text/unicode/utf8.h"

namespace taipan::jinja {
namespace {

// 0 to 9, or nothing: a decimal digit of any script. Each script has its ten in a row.
std::optional<int> DigitOf(std::string_view character) {
  const auto c = CodePoint(character);
  if (!c || !IsOf(*c, CharacterClass::kDecimal)) return std::nullopt;
  if (*c < 0x80) return static_cast<int>(*c - '0');
  uint32_t first = *c;
  while (IsOf(first - 1, CharacterClass::kDecimal)) --first;
  return static_cast<int>((*c - first) % 10);
}

// The text without white space around it, digits of every script as ASCII. An underscore may stand between digits
// only: `allowed` tells what counts as one.
std::optional<std::string> PlainNumber(std::string_view text, bool (*allowed)(char)) {
  std::string digits;
  for (const std::string_view character : Characters(Strip(text, true, true))) {
    if (const auto digit = DigitOf(character)) {
      digits += static_cast<char>('0' + *digit);
    } else {
      digits += character;
    }
  }
  std::string plain;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool between = i > 0 && i + 1 < digits.size() && allowed(digits[i - 1]) && allowed(digits[i + 1]);
    if (digits[i] == '_' && !between) return std::nullopt;
    if (digits[i] != '_') plain += digits[i];
  }
  return plain;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool IsLineEnd(std::string_view character) {
  const auto c = CodePoint(character);
  return c && ((*c >= 0x0A && *c <= 0x0D) || (*c >= 0x1C && *c <= 0x1E) || *c == 0x85 || *c == 0x2028 || *c == 0x2029);
}

}  // namespace

bool IsPythonSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t CharacterLength(std::string_view text, size_t at) {
  return std::max<size_t>(1, Utf8CharacterSize(text.substr(at)));
}

std::vector<size_t> CharacterStarts(std::string_view text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); i += CharacterLength(text, i)) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += CharacterLength(text, i)) ++count;
  return count;
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> all;
  for (size_t i = 0; i < text.size();) {
    all.push_back(text.substr(i, CharacterLength(text, i)));
    i += all.back().size();
  }
  return all;
}

std::optional<uint32_t> CodePoint(std::string_view character) {
  if (Utf8CharacterSize(character) == 0) return std::nullopt;
  return DecodeUtf8(character);
}

std::string_view Strip(std::string_view text, bool left, bool right, const std::string_view* chars) {
  const std::vector<std::string_view> set = chars != nullptr ? Characters(*chars) : std::vector<std::string_view>();
  const auto goes = [&](std::string_view character) {
    if (chars != nullptr) return std::find(set.begin(), set.end(), character) != set.end();
    const auto c = CodePoint(character);
    return c && IsPythonSpace(*c);
  };
  while (left && !text.empty()) {
    const size_t length = CharacterLength(text, 0);
    if (!goes(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && text.size() - at < 4 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
    if (CharacterLength(text, at) != text.size() - at) at = text.size() - 1;
    if (!goes(text.substr(at))) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

std::vector<std::string> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  std::string line;
  const std::vector<std::string_view> all = Characters(text);
  for (size_t i = 0; i < all.size(); ++i) {
    if (!IsLineEnd(all[i])) {
      line += all[i];
      continue;
    }
    const bool both = all[i] == "\r" && i + 1 < all.size() && all[i + 1] == "\n";
    if (keep_ends) line.append(all[i]).append(both ? "\n" : "");
    i += both;
    lines.push_back(std::exchange(line, ""));
  }
  if (!line.empty()) lines.push_back(line);
  return lines;
}

ParsedInteger ParseInteger(std::string_view text, int64_t base) {
  const auto plain = PlainNumber(text, IsAlnum);
  if (!plain) return {};
  std::string_view rest = *plain;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const char prefix = rest.size() > 1 && rest[0] == '0' ? static_cast<char>(rest[1] | 0x20) : '\0';
  const int64_t named = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
  if (named != 0 && (base == 0 || base == named)) {
    rest.remove_prefix(2);
    base = named;
  } else if (base == 0) {
    if (rest.size() > 1 && rest[0] == '0' && rest.find_first_not_of('0') != rest.npos) return {};
    base = 10;
  }
  if (rest.empty() || !IsAlnum(rest[0])) return {};
  const std::string signed_text = fmt::format("{}{}", negative ? "-" : "", rest);
  int64_t value = 0;
  const char* end = signed_text.data() + signed_text.size();
  const auto read = std::from_chars(signed_text.data(), end, value, static_cast<int>(base));
  if (read.ptr != end) return {};
  if (read.ec == std::errc::result_out_of_range) return {std::nullopt, true};
  return {value, false};
}

std::optional<double> ParseFloat(std::string_view text) {
  const auto plain = PlainNumber(text, IsDigit);
  if (!plain) return std::nullopt;
  std::string_view rest = *plain;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const std::string word = Lower(rest);
  double value = 0;
  if (word == "inf" || word == "infinity") {
    value = HUGE_VAL;
  } else if (word == "nan") {
    value = std::nan("");
  } else {
    if (rest.empty() || (!IsDigit(rest[0]) && rest[0] != '.')) return std::nullopt;
    const auto read = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (read.ptr != rest.data() + rest.size() || read.ec == std::errc::invalid_argument) return std::nullopt;
    if (read.ec == std::errc::result_out_of_range) value = std::strtod(std::string(rest).c_str(), nullptr);
  }
  return negative ? -value : value;
}

}  // namespace taipan::jinja
