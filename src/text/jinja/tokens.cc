// Jinja's tokens and the white space that goes with its tags.

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "text/jinja/syntax.h"
#include "text/jinja/text.h"
#include "text/one_line.h"
#include "text/unicode/utf8.h"

namespace taipan::jinja {
namespace {

std::string UnixNewlines(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();  // Jinja's keep_trailing_newline is off
  return text;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& where) : text_(UnixNewlines(source)), where_(where) {}

  std::vector<Token> Run() {
    while (at_ < text_.size()) TextAndTag();
    Add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  using Kind = Token::Kind;

  void Add(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  char At(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  void MoveTo(size_t to) {
    for (; at_ < to; ++at_) line_ += text_[at_] == '\n';
  }

  void TextAndTag() {
    size_t tag = at_;
    const auto opens = [&] {
      return At(tag) == '{' && (At(tag + 1) == '{' || At(tag + 1) == '%' || At(tag + 1) == '#');
    };
    while (tag < text_.size() && !opens()) ++tag;
    const char type = At(tag + 1), sign = At(tag + 2);
    TextUpTo(tag);
    if (tag == text_.size()) return;
    line_starts_ = false;
    MoveTo(tag + 2 + (sign == '-' || sign == '+'));
    if (type == '#') return Comment();
    if (type == '%' && SkipRawTag("raw", false)) return Raw();
    Add(type == '{' ? Kind::kPrintBegin : Kind::kBlockBegin, "");
    Inside(type == '{' ? '}' : '%');
  }

  // The text before a tag, without the white space that the tag takes.
  void TextUpTo(size_t tag) {
    std::string_view data = std::string_view(text_).substr(at_, tag - at_);
    const char type = At(tag + 1), sign = At(tag + 2);
    if (tag < text_.size()) {
      if (sign == '-') {
        data = Strip(data, false, true);
      } else if (sign != '+' && type != '{') {
        const size_t line_begin = data.rfind('\n') + 1;  // 0 where there is no line end
        const bool whole_line = line_begin > 0 || line_starts_;
        if (whole_line && Strip(data.substr(line_begin), true, false).empty()) data = data.substr(0, line_begin);
      }
    }
    if (!data.empty()) Add(Kind::kText, std::string(data));
    MoveTo(tag);
  }

  size_t SkipSpaces(size_t at) const {
    const std::string_view rest = std::string_view(text_).substr(std::min(at, text_.size()));
    return at + rest.size() - Strip(rest, true, false).size();
  }

  // Whether the rest of a tag says `word` alone, which then is passed.
  bool SkipRawTag(std::string_view word, bool closes) {
    size_t at = SkipSpaces(at_);
    if (!std::string_view(text_).substr(at).starts_with(word)) return false;
    at = SkipSpaces(at + word.size());
    const char sign = At(at) == '-' || (closes && At(at) == '+') ? At(at) : '\0';
    at += sign != '\0';
    if (At(at) != '%' || At(at + 1) != '}') return false;
    MoveTo(at + 2);
    AfterTag(sign, closes);
    return true;
  }

  void Raw() {
    const int begin = line_;
    for (size_t tag = at_; (tag = text_.find("{%", tag)) != text_.npos; tag += 2) {
      const char sign = At(tag + 2);
      const size_t word = SkipSpaces(tag + 2 + (sign == '-' || sign == '+'));
      if (!std::string_view(text_).substr(word).starts_with("endraw")) continue;
      const size_t end = SkipSpaces(word + 6);
      if (!std::string_view(text_).substr(end + (At(end) == '-' || At(end) == '+')).starts_with("%}")) continue;
      TextUpTo(tag);
      MoveTo(word);
      SkipRawTag("endraw", true);
      return;
    }
    Refuse(where_, begin, "a raw block has no end", "{% endraw %}");
  }

  void Comment() {
    const size_t end = text_.find("#}", at_);
    if (end == text_.npos) Refuse(where_, line_, "a comment has no end", "#}");
    const char sign = end > at_ ? text_[end - 1] : '\0';
    MoveTo(end + 2);
    AfterTag(sign, true);
  }

  // After a closing tag: "-" takes all white space, block tags and comments else one line end ("+": none).
  void AfterTag(char sign, bool trim_line) {
    if (sign == '-') {
      const std::string_view rest = std::string_view(text_).substr(at_);
      MoveTo(at_ + (rest.size() - Strip(rest, true, false).size()));
    } else if (trim_line && sign != '+' && At(at_) == '\n') {
      MoveTo(at_ + 1);
    }
    line_starts_ = text_[at_ - 1] == '\n';
  }

  bool Close(char close) {
    const char sign = At(at_);
    const bool has_sign = sign == '-' || (sign == '+' && close == '%');
    if (At(at_ + has_sign) != close || At(at_ + has_sign + 1) != '}') return false;
    Add(close == '}' ? Kind::kPrintEnd : Kind::kBlockEnd, "");
    MoveTo(at_ + has_sign + 2);
    AfterTag(has_sign ? sign : '\0', close == '%');
    return true;
  }

  void Inside(char close) {
    const int begin = line_;
    int open = 0;  // brackets; a closing tag counts only outside of them
    while (true) {
      const std::string_view rest = std::string_view(text_).substr(at_);
      MoveTo(at_ + (rest.size() - Strip(rest, true, false).size()));
      if (at_ == text_.size()) Refuse(where_, begin, "a tag has no end", close == '}' ? "}}" : "%}");
      if (open == 0 && Close(close)) return;
      const char c = text_[at_];
      if (c == '"' || c == '\'') {
        String(c);
      } else if (IsDigit(c)) {
        Number();
      } else if (NameLength(at_) > 0) {
        size_t end = at_;
        while (const size_t length = NameLength(end)) end += length;
        Add(Kind::kName, text_.substr(at_, end - at_));
        MoveTo(end);
      } else {
        Operator();
        open += c == '(' || c == '[' || c == '{';
        open -= c == ')' || c == ']' || c == '}';
        if (open < 0) Refuse(where_, line_, "a bracket closes that was not opened", "", {c});
      }
    }
  }

  void Operator() {
    static constexpr std::array<std::string_view, 6> kLong = {"//", "**", "==", "!=", ">=", "<="};
    const std::string_view two = std::string_view(text_).substr(at_, 2);
    const bool is_long = std::find(kLong.begin(), kLong.end(), two) != kLong.end();
    if (!is_long && std::string_view("+-/*%~[](){}><=.:|,;").find(two[0]) == std::string_view::npos) {
      const std::string shown = text_.substr(at_, CharacterLength(text_, at_));
      Refuse(where_, line_, "a character that is no part of an expression", "", ToValidUtf8(shown));
    }
    const size_t size = is_long ? 2 : 1;
    Add(Kind::kOperator, std::string(two.substr(0, size)));
    MoveTo(at_ + size);
  }

  // Bytes of the character at `at` if it may be part of a name.
  size_t NameLength(size_t at) const {
    const char c = At(at);
    if (static_cast<uint8_t>(c) < 0x80) return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    const size_t length = CharacterLength(text_, at);
    const auto code = CodePoint(std::string_view(text_).substr(at, length));
    return code && IsOf(*code, CharacterClass::kAlnum) ? length : 0;
  }

  // The digits from `at` on, underscores between them left out; the place after them.
  size_t Digits(size_t at, std::string_view allowed, std::string& digits) const {
    const auto is_digit = [&](char c) { return c != '\0' && allowed.find(c) != allowed.npos; };
    for (; is_digit(At(at)) || (At(at) == '_' && is_digit(At(at + 1))); ++at) {
      if (At(at) != '_') digits += At(at);
    }
    return at;
  }

  void Number() {
    static constexpr std::string_view kDecimal = "0123456789", kHex = "0123456789abcdefABCDEF";
    const char base = text_[at_] == '0' ? static_cast<char>(At(at_ + 1) | 0x20) : '\0';
    std::string digits;
    if (base == 'x' || base == 'o' || base == 'b') {
      digits = std::string("0") + base;
      const size_t end = Digits(at_ + 2, base == 'x' ? kHex : kDecimal.substr(0, base == 'o' ? 8 : 2), digits);
      if (digits.size() == 2) Refuse(where_, line_, "a number without digits");
      Add(Kind::kInteger, digits);
      return MoveTo(end);
    }
    size_t end = Digits(at_, kDecimal, digits);
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';  // x.0.1 is two subscripts
    const auto exponent = [&](size_t at) {
      const bool sign = At(at + 1) == '+' || At(at + 1) == '-';
      return (At(at) | 0x20) == 'e' && IsDigit(At(at + 1 + sign));
    };
    bool is_float = false;
    if (!after_dot && At(end) == '.' && IsDigit(At(end + 1))) {
      digits += '.';
      end = Digits(end + 1, kDecimal, digits);
      is_float = true;
    }
    if (!after_dot && exponent(end)) {
      digits += 'e';
      if (!IsDigit(At(++end))) digits += At(end++);
      end = Digits(end, kDecimal, digits);
      is_float = true;
    }
    Add(is_float ? Kind::kFloat : Kind::kInteger, digits);
    MoveTo(end);
  }

  void String(char quote) {
    size_t i = at_ + 1;
    std::string value;
    unsupported_.clear();
    while (At(i) != quote) {
      if (i >= text_.size()) Refuse(where_, line_, "a string has no end");
      if (text_[i] == '\\') {
        i = Escape(i, value);
      } else {
        value += text_[i++];
      }
    }
    if (unsupported_.empty()) {
      Add(Kind::kString, std::move(value));
    } else {
      Add(Kind::kRefused, unsupported_);
    }
    MoveTo(i + 1);
  }

  // Python's escapes; one that it does not know stays as it is. text_[i] is the backslash; returns where it ends.
  size_t Escape(size_t i, std::string& value) {
    const char c = At(i + 1);
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t found = kFrom.find(c); found != kFrom.npos) {
      value += kTo[found];
      return i + 2;
    }
    if (c == '\n') return i + 2;  // a line that goes on
    if (c >= '0' && c <= '7') {
      uint32_t octal = 0;
      size_t end = i + 1;
      for (; end < i + 4 && At(end) >= '0' && At(end) <= '7'; ++end)
        octal = octal * 8 + static_cast<uint32_t>(At(end) - '0');
      value += EncodeUtf8(octal);
      return end;
    }
    if (c == 'N' && At(i + 2) == '{') {
      unsupported_ = "characters by their names (\\N{...}) are not supported";
      return i + 2;
    }
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      value += '\\';
      return i + 1;
    }
    uint32_t code_point = 0;
    for (int d = 0; d < digits; ++d) {
      const char h = At(i + 2 + static_cast<size_t>(d));
      if (!std::isxdigit(static_cast<unsigned char>(h))) Refuse(where_, line_, "a broken escape in a string");
      code_point = code_point << 4 | static_cast<uint32_t>(IsDigit(h) ? h - '0' : (h | 0x20) - 'a' + 10);
    }
    if (code_point > 0x10FFFF) Refuse(where_, line_, "an escape in a string names no character");
    if (code_point >= 0xD800 && code_point <= 0xDFFF) {
      unsupported_ = "half of a surrogate pair in a string is not supported";
    } else {
      value += EncodeUtf8(code_point);
    }
    return i + 2 + static_cast<size_t>(digits);
  }

  const std::string text_;
  const std::string& where_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::string unsupported_;  // in the string under way
  std::vector<Token> tokens_;
};

}  // namespace

void Refuse(const std::string& where, int line, const std::string& problem, const std::string& expected,
            const std::string& found) {
  throw UserError({where, fmt::format("chat template, line {}: {}", line, problem), expected, OneLine(found)});
}

std::vector<Token> Tokenize(std::string_view source, const std::string& where) { return Lexer(source, where).Run(); }

}  // namespace taipan::jinja
