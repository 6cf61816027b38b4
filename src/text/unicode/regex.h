#pragma once
// Regular expressions over UTF-8 text, through PCRE2 with its just-in-time compiler. tokenizer.json files are written
// for Oniguruma in Ruby's syntax; what that reads differently is translated.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace taipan {

class Regex {
 public:
  // UserErrors name `where`: a pattern that PCRE2 refuses, and Oniguruma syntax that has no translation here.
  static Regex FromOniguruma(const std::string& pattern, const std::string& where);
  Regex(const std::string& pcre2_pattern, const std::string& where);

  // The matches in a text from left to right, as Oniguruma's and Rust's find_iter give them: an empty match right after
  // a match is left out. The text is valid UTF-8. One search per thread; the Regex may be shared and must outlive it.
  class Search {
   public:
    // goes_on: more may follow the text; a match that this could change is none.
    Search(const Regex& regex, std::string_view text, bool goes_on = false);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    // UserError where the pattern needs more steps or memory on this text than any sane one does.
    bool Next(size_t* begin, size_t* end);
    // After Next gave nothing: where the first match may begin that is not decided; the end of the text for none.
    size_t undecided() const { return undecided_; }

   private:
    struct Buffers;
    bool Match();

    const Regex& regex_;
    std::string_view text_;
    std::unique_ptr<Buffers> buffers_;
    size_t from_ = 0, last_end_, undecided_;
    bool goes_on_;
  };

  // Whether matches are never empty and depend on nothing before them.
  bool looks_ahead_only() const { return looks_ahead_only_; }

  const std::string& pattern() const { return pattern_; }  // in PCRE2's syntax

 private:
  std::string pattern_, where_;
  std::shared_ptr<void> code_;  // pcre2_code, read-only after compiling
  bool looks_ahead_only_ = false;
};

// The pattern in PCRE2's syntax (multi-line mode, Unicode properties). UserError naming `where` for syntax without a
// translation.
std::string TranslateOniguruma(std::string_view pattern, const std::string& where);

// Members of a character class: \p{name} of Unicode 16.0 ("L", "Nd", "Han"), and \s and \w as Oniguruma has them and
// \w as Rust's regex crate does. PCRE2 counts U+180E as a space, and fewer characters as parts of words.
std::string PropertyClass(std::string_view name);
inline constexpr const char* kSpaceClass =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
std::string WordClass();
std::string RustWordClass();

}  // namespace taipan
