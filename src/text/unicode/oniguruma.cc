// Oniguruma's Ruby syntax in PCRE2's.

#include <cctype>
#include <optional>
#include <vector>

#include "base/error.h"
#include "text/unicode/newer_characters.h"
#include "text/unicode/regex.h"

namespace taipan {
namespace {

// Alphabetic, M, Nd and Pc: what is newer of the first are letters and marks. Inside of a class Oniguruma's \w lacks
// the superscripts and fractions that it has outside.
std::string WordClassInside() {
  std::string members = R"(\p{Alphabetic})" + NewerMembers("L");
  for (const char* category : {"M", "Nd", "Pc"}) members += PropertyClass(category);
  return members;
}

bool IsScript(std::string_view name) {
  if (name.size() < 3) return false;  // a category
  try {
    Regex(fmt::format("\\p{{sc:{}}}", name), "");
    return true;
  } catch (const UserError&) {
    return false;
  }
}

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
    throw UserError({.where = where_, .problem = "the regular expression uses what is not supported", .found = what});
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
    const size_t close = Next("\\x{") ? in_.find('}', at_) : in_.npos;
    if (close != in_.npos) {
      out_ += in_.substr(at_, close + 1 - at_);
      at_ = close + 1;
      return;
    }
    out_ += in_[at_++];
    if (at_ < in_.size()) CopyCharacter();
  }

  struct Set {
    std::string members;  // of a character class
    bool complement = false;
  };

  // An escape that stands for a set of characters, none where this is something else.
  std::optional<Set> SetEscape(bool inside_class) {
    const char kind = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    const bool complement = std::isupper(static_cast<unsigned char>(kind)) != 0;
    if (Next("\\p{") || Next("\\P{")) {
      const size_t close = in_.find('}', at_);
      if (close == in_.npos) return std::nullopt;
      std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
      const bool turned = name.starts_with('^');
      if (turned) name.remove_prefix(1);
      at_ = close + 1;
      return Set{PropertyClass(name), complement != turned};
    }
    std::string members;
    switch (kind) {
      case 's':
      case 'S':
        members = kSpaceClass;
        break;
      case 'w':
      case 'W':
        members = inside_class ? WordClassInside() : WordClass();
        break;
      case 'd':
      case 'D':
        members = PropertyClass("Nd");
        break;
      case 'h':
      case 'H':
        members = "0-9A-Fa-f";
        break;
      default:
        return std::nullopt;
    }
    at_ += 2;
    return Set{members, complement};
  }

  static std::string ClassOf(const Set& set) { return fmt::format("[{}{}]", set.complement ? "^" : "", set.members); }

  void Escape() {
    if (CodePoint()) return;
    if (const std::optional<Set> set = SetEscape(false)) {
      out_ += ClassOf(*set);
    } else if (Next("\\b")) {
      out_ += fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", WordClass());
      at_ += 2;
    } else if (Next("\\B")) {
      out_ += fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", WordClass());
      at_ += 2;
    } else if (Next("\\v")) {
      out_ += "\\x0B";
      at_ += 2;
    } else {
      CopyEscape();
    }
  }

  void ClassEscape(std::vector<std::string>& complements) {
    if (CodePoint()) return;
    if (const std::optional<Set> set = SetEscape(true)) {
      if (set->complement) {
        complements.push_back(ClassOf(*set));
      } else {
        out_ += set->members;
      }
    } else if (Next("\\v")) {
      out_ += "\\x0B";
      at_ += 2;
    } else {
      CopyEscape();
    }
  }

  // Classes inside of a class are a union: their members join the outer one's.
  void CharacterClass() {
    const size_t begin = out_.size();
    out_ += in_[at_++];
    const bool negated = Next("^");
    if (negated) out_ += in_[at_++];
    const size_t members = out_.size();
    std::vector<std::string> complements;
    int depth = 1;
    if (Next("]")) {
      out_ += "\\]";
      ++at_;
    }
    while (at_ < in_.size() && depth > 0) {
      if (Next("\\")) {
        ClassEscape(complements);
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
    if (depth > 0) return;  // PCRE2 complains about the missing ]
    const std::string own = out_.substr(members);
    if (complements.empty()) {
      out_ += ']';
      return;
    }
    if (!own.empty()) complements.push_back("[" + own + "]");
    out_.replace(
        begin, out_.npos,
        fmt::format("(?{}{}){}", negated ? ":(?!" : ":", fmt::join(complements, "|"), negated ? "(?s:.))" : ""));
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

std::string PropertyClass(std::string_view name) {
  // \p{Han} of PCRE2 has the characters that are used with a script too (Script_Extensions).
  return fmt::format("\\p{{{}{}}}{}", IsScript(name) ? "sc:" : "", name, NewerMembers(name));
}

std::string WordClass() { return WordClassInside() + R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})"; }
std::string RustWordClass() { return WordClassInside() + R"(\x{200C}\x{200D})"; }

std::string TranslateOniguruma(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).Run();
}

}  // namespace taipan
