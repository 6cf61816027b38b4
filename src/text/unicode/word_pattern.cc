#include "text/unicode/word_pattern.h"

#include <utf8proc.h>

#include <array>

#include "text/unicode/newer_characters.h"
#include "text/unicode/utf8.h"

namespace taipan {

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Class : uint8_t { kTextEnd, kLetter, kNumber, kBlank, kBreak, kOther };  // kBreak: \r and \n; kBlank: other spaces

constexpr std::array<Class, 128> kAsciiClasses = [] {
  std::array<Class, 128> classes{};
  for (size_t c = 0; c < 128; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    classes[c] = letter                                            ? kLetter
                 : c >= '0' && c <= '9'                            ? kNumber
                 : c == '\n' || c == '\r'                          ? kBreak
                 : c == ' ' || c == '\t' || c == '\v' || c == '\f' ? kBlank
                                                                   : kOther;
  }
  return classes;
}();

Class ClassOf(uint32_t c) {
  if (c == 0x85) return kBlank;  // a control character that Unicode counts as white space
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return kNumber;
  if (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP) return kBlank;
  if (category != UTF8PROC_CATEGORY_CN) return kOther;
  const std::string_view newer = NewerCategory(c);
  return newer.starts_with('L') ? kLetter : newer.starts_with('N') ? kNumber : kOther;
}

// A place in the text and the class of the character there.
class Cursor {
 public:
  Cursor(std::string_view text, size_t at) : text_(text), at_(at) { Look(); }

  Class kind() const { return kind_; }
  size_t at() const { return at_; }
  char byte() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void Step() {
    at_ += size_;
    Look();
  }
  void Skip(Class kind) {
    while (kind_ == kind) Step();
  }

 private:
  void Look() {
    if (at_ >= text_.size()) {
      kind_ = kTextEnd;
      size_ = 0;
      return;
    }
    const auto lead = static_cast<uint8_t>(text_[at_]);
    if (lead < 0x80) {
      kind_ = kAsciiClasses[lead];
      size_ = 1;
      return;
    }
    size_ = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    kind_ = ClassOf(DecodeUtf8(text_.substr(at_, size_)));
  }

  std::string_view text_;
  size_t at_, size_ = 0;
  Class kind_ = kTextEnd;
};

bool IsSpace(Class kind) { return kind == kBlank || kind == kBreak; }

// Length of 's, 't, 're, 've, 'm, 'll or 'd at the apostrophe at `at`, 0 for none. Any case: also U+017F, the long s.
size_t ContractionSize(std::string_view text, size_t at, bool any_case) {
  const auto letter = [&](size_t i) {
    const char c = at + i < text.size() ? text[at + i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  return any_case && text.substr(at + 1, 2) == "\u017F" ? 3 : 0;
}

// \s+(?!\S)|\s+ from the first space on: all of the spaces, but before a word all but the last.
size_t SpacesEnd(const Cursor& first) {
  Cursor c = first;
  size_t last = c.at();
  for (; IsSpace(c.kind()); c.Step()) last = c.at();
  return c.kind() == kTextEnd || last == first.at() ? c.at() : last;
}

size_t NextGpt2Word(std::string_view text, size_t at) {
  Cursor c(text, at);
  if (c.byte() == '\'') {
    const size_t size = ContractionSize(text, at, /*any_case=*/false);
    if (size > 0) return at + size;
  }
  const Cursor first = c;
  if (c.byte() == ' ') c.Step();
  if (IsSpace(c.kind()) || c.kind() == kTextEnd) return SpacesEnd(first);
  c.Skip(c.kind());
  return c.at();
}

size_t NextLlama3Word(std::string_view text, size_t at, int max_digits) {
  Cursor c(text, at);
  if (c.byte() == '\'') {
    const size_t size = ContractionSize(text, at, /*any_case=*/true);
    if (size > 0) return at + size;
  }
  const Cursor first = c;
  if (c.kind() == kBlank || c.kind() == kOther) c.Step();  // the character before a word's letters
  if (c.kind() == kLetter) {
    c.Skip(kLetter);
    return c.at();
  }
  c = first;
  if (c.kind() == kNumber) {
    for (int i = 0; i < max_digits && c.kind() == kNumber; ++i) c.Step();
    return c.at();
  }
  if (c.byte() == ' ') c.Step();
  if (c.kind() == kOther) {
    c.Skip(kOther);
    c.Skip(kBreak);
    return c.at();
  }
  size_t after_break = 0;
  for (c = first; IsSpace(c.kind());) {
    const bool is_break = c.kind() == kBreak;
    c.Step();
    if (is_break) after_break = c.at();
  }
  return after_break > 0 ? after_break : SpacesEnd(first);
}

}  // namespace

WordPattern::WordPattern(const std::string& pattern, const std::string& where) {
  if (pattern == kGpt2Pattern) {
    known_ = Known::kGpt2;
  } else if (pattern == kLlama3Pattern) {
    known_ = Known::kLlama3;
  } else if (pattern == kQwen2Pattern) {
    known_ = Known::kQwen2;
  } else {
    regex_ = Regex::FromOniguruma(pattern, where);
  }
}

// The matches before `at`, found twice: in a text that goes on and in one that ends there. They must be the same.
WordPattern::Cut WordPattern::CutAt(std::string_view text, size_t at) const {
  const bool before_space = text.substr(at).starts_with(' ') && TrailingSpaces(text.substr(0, at)) == 0;
  if (known_ != Known::kNone) return {before_space, at, at};  // a space only opens their words, spaces end with one
  if (!regex_->looks_ahead_only()) return {};
  Regex::Search whole(*regex_, text, /*goes_on=*/true), part(*regex_, text.substr(0, at));
  size_t begin = 0, end = 0, part_begin = 0, part_end = 0, done = 0;
  bool found = false;
  while ((found = whole.Next(&begin, &end)) && end <= at) {
    if (!part.Next(&part_begin, &part_end) || part_begin != begin || part_end != end) return {};
    done = end;
  }
  const size_t next = found ? begin : whole.undecided();
  if (next < at || part.Next(&part_begin, &part_end)) return {};
  if (done == at || (found && begin == at)) return {true, at, at};
  return {next > at, done, next};
}

size_t WordPattern::NextWord(std::string_view text, size_t at) const {
  if (known_ == Known::kGpt2) return NextGpt2Word(text, at);
  return NextLlama3Word(text, at, known_ == Known::kLlama3 ? 3 : 1);
}

}  // namespace taipan
