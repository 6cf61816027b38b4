// Oniguruma's Ruby syntax in PCRE2's.

#include <cctype>
#include <vector>

#include "base/error.h"
#include "text/regex.h"

namespace taipan {
namespace {

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string Run() {
    while (at_ < in_.size()) {
      switch (in_[at_]) {
        case '\\':
          atom_ = out_.size();
          Escape();
          break;
        case '[':
          atom_ = out_.size();
          CharacterClass();
          break;
        case '(':
          groups_.push_back(out_.size());
          Group();
          break;
        case ')':
          if (!groups_.empty()) {
            atom_ = groups_.back();
            groups_.pop_back();
          }
          out_ += in_[at_++];
          break;
        case '{':
          Repeat();
          break;
        default:
          if (std::string_view("*+?|").find(in_[at_]) == std::string_view::npos) atom_ = out_.size();
          CopyCharacter();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void Refuse(const std::string& what) const {
    throw UserError({where_, "the regular expression uses what is not supported", "", what, ""});
  }
  bool Next(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  void CopyCharacter() {
    do out_ += in_[at_++];
    while (at_ < in_.size() && (static_cast<uint8_t>(in_[at_]) & 0xC0) == 0x80);
  }

  // \uHHHH, which PCRE2 lacks; false where this is something else.
  bool CodePoint() {
    if (!Next("\\u") || in_.size() < at_ + 6) return false;
    for (size_t i = at_ + 2; i < at_ + 6; ++i) {
      if (std::isxdigit(static_cast<unsigned char>(in_[i])) == 0) return false;
    }
    out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
    at_ += 6;
    return true;
  }

  void CopyEscape() {
    const bool property = Next("\\p{") || Next("\\P{") || Next("\\x{");
    const size_t close = property ? in_.find('}', at_) : in_.npos;
    if (close != in_.npos) {
      out_ += in_.substr(at_, close + 1 - at_);
      at_ = close + 1;
      return;
    }
    out_ += in_[at_++];
    if (at_ < in_.size()) CopyCharacter();
  }

  void Escape() {
    if (CodePoint()) return;
    const char kind = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    const std::string space = kSpaceClass, word = kWordClass;
    std::string other;
    switch (kind) {
      case 's':
        other = "[" + space + "]";
        break;
      case 'S':
        other = "[^" + space + "]";
        break;
      case 'w':
        other = "[" + word + "]";
        break;
      case 'W':
        other = "[^" + word + "]";
        break;
      case 'b':
        other = fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", word);
        break;
      case 'B':
        other = fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", word);
        break;
      case 'h':
        other = "[0-9A-Fa-f]";
        break;
      case 'H':
        other = "[^0-9A-Fa-f]";
        break;
      case 'v':
        other = "\\x0B";
        break;
      default:
        CopyEscape();
        return;
    }
    out_ += other;
    at_ += 2;
  }

  void ClassEscape() {
    if (CodePoint()) return;
    const char kind = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    switch (kind) {
      case 's':
        out_ += kSpaceClass;
        break;
      case 'S':
        out_ += "\\S\\x{180E}";
        break;
      case 'w':
        out_ += kWordClass;
        break;
      case 'h':
        out_ += "0-9A-Fa-f";
        break;
      case 'v':
        out_ += "\\x0B";
        break;
      case 'W':
      case 'H':
        Refuse(fmt::format("\\{} inside of a character class", kind));
      default:
        CopyEscape();
        return;
    }
    at_ += 2;
  }

  // Classes inside of a class are a union: their members join the outer one's.
  void CharacterClass() {
    out_ += in_[at_++];
    if (Next("^")) out_ += in_[at_++];
    int depth = 1;
    if (Next("]")) {
      out_ += "\\]";
      ++at_;
    }
    while (at_ < in_.size() && depth > 0) {
      if (Next("\\")) {
        ClassEscape();
      } else if (Next("[:")) {
        Refuse("a POSIX class ([:name:])");
      } else if (Next("[^")) {
        Refuse("a negated class inside of a character class");
      } else if (Next("&&")) {
        Refuse("an intersection of character classes (&&)");
      } else if (Next("[")) {
        ++depth;
        ++at_;
      } else if (Next("]")) {
        --depth;
        ++at_;
      } else {
        CopyCharacter();
      }
    }
    if (depth == 0) out_ += ']';  // else PCRE2 complains about the missing one
  }

  // Ruby's (?m) is PCRE2's (?s).
  void Group() {
    out_ += in_[at_++];
    if (!Next("?")) return;
    size_t end = at_ + 1;
    while (end < in_.size() && std::string_view("imx-").find(in_[end]) != std::string_view::npos) ++end;
    if (end == in_.size() || end == at_ + 1 || (in_[end] != ':' && in_[end] != ')')) return;
    for (; at_ < end; ++at_) out_ += in_[at_] == 'm' ? 's' : in_[at_];
  }

  // {,n} is {0,n}; and behind {n,m} a + repeats the whole, as ? behind {n} makes it optional.
  void Repeat() {
    size_t end = at_ + 1;
    while (end < in_.size() && (std::isdigit(static_cast<unsigned char>(in_[end])) != 0 || in_[end] == ',')) ++end;
    const std::string_view inside = in_.substr(at_ + 1, end - at_ - 1);
    const bool is_repeat = end < in_.size() && in_[end] == '}' && !inside.empty() && inside != ",";
    if (!is_repeat) {  // a literal brace
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    out_ += inside[0] == ',' ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside);
    at_ = end + 1;
    const bool exact = inside.find(',') == inside.npos;
    if (Next("+") || (exact && Next("?"))) {
      out_.insert(atom_, "(?:");
      out_ += ")";
      for (size_t& group : groups_) group += group > atom_ ? 3 : 0;
    }
  }

  std::string_view in_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  size_t atom_ = 0;             // where in out_ the piece that a repeat refers to begins
  std::vector<size_t> groups_;  // where in out_ the open groups begin
};

}  // namespace

std::string TranslateOniguruma(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).Run();
}

}  // namespace taipan
