// Jinja's tokens and the white space that goes with its tags.

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "text/jinja_syntax.h"
#include "text/one_line.h"
#include "text/utf8.h"

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

bool IsNameCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
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
    if (tag == text_.size()) return;
    line_starts_ = false;
    MoveTo(tag + 2 + (sign == '-' || sign == '+'));
    if (type == '#') return Comment();
    Add(type == '{' ? Kind::kPrintBegin : Kind::kBlockBegin, "");
    Inside(type == '{' ? '}' : '%');
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
      } else if (IsNameCharacter(c)) {
        size_t end = at_;
        while (IsNameCharacter(At(end))) ++end;
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
    if (!is_long && std::string_view("+-/*%~[](){}><=.:|,").find(two[0]) == std::string_view::npos) {
      const std::string shown = text_.substr(at_, CharacterLength(text_, at_));
      Refuse(where_, line_, "a character that is no part of an expression", "", ToValidUtf8(shown));
    }
    const size_t size = is_long ? 2 : 1;
    Add(Kind::kOperator, std::string(two.substr(0, size)));
    MoveTo(at_ + size);
  }

  void Number() {
    std::string digits;
    size_t end = at_;
    for (; IsDigit(At(end)) || (At(end) == '_' && IsDigit(At(end + 1))); ++end) {
      if (At(end) != '_') digits += At(end);
    }
    const bool fraction = At(end) == '.' && IsDigit(At(end + 1));
    if (fraction || IsNameCharacter(At(end))) Refuse(where_, line_, "only whole decimal numbers are supported");
    if (digits.size() > 15) Refuse(where_, line_, "a number is too large", "at most 15 digits");
    Add(Kind::kInteger, digits);
    MoveTo(end);
  }

  void String(char quote) {
    size_t i = at_ + 1;
    std::string value;
    while (At(i) != quote) {
      if (i >= text_.size()) Refuse(where_, line_, "a string has no end");
      if (text_[i] == '\\') {
        i = Escape(i, value);
      } else {
        value += text_[i++];
      }
    }
    Add(Kind::kString, std::move(value));
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
    if (IsDigit(c) || c == 'N') Refuse(where_, line_, "octal and named escapes are not supported", "", {'\\', c});
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
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) {
      Refuse(where_, line_, "an escape in a string names no character");
    }
    value += EncodeUtf8(code_point);
    return i + 2 + static_cast<size_t>(digits);
  }

  const std::string text_;
  const std::string& where_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

bool IsPythonSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t CharacterLength(std::string_view text, size_t at) {
  return std::max<size_t>(1, Utf8CharacterSize(text.substr(at)));
}

std::string_view Strip(std::string_view text, bool left, bool right, const std::string_view* chars) {
  const auto goes = [&](size_t at, size_t length) {
    const std::string_view character = text.substr(at, length);
    if (chars == nullptr) return Utf8CharacterSize(character) != 0 && IsPythonSpace(DecodeUtf8(character));
    return chars->find(character) != chars->npos;
  };
  while (left && !text.empty()) {
    const size_t length = CharacterLength(text, 0);
    if (!goes(0, length)) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && text.size() - at < 4 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
    if (CharacterLength(text, at) != text.size() - at) at = text.size() - 1;
    if (!goes(at, text.size() - at)) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

void Refuse(const std::string& where, int line, const std::string& problem, const std::string& expected,
            const std::string& found) {
  throw UserError({where, fmt::format("chat template, line {}: {}", line, problem), expected, OneLine(found), ""});
}

std::vector<Token> Tokenize(std::string_view source, const std::string& where) { return Lexer(source, where).Run(); }

}  // namespace taipan::jinja
