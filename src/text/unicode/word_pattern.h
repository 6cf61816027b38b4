#pragma once
// The regular expression that cuts a text into words. Those of the large public tokenizers (GPT-2, LLaMA-3, Qwen) have
// a matcher of their own with the same results, several times as fast as PCRE2.

#include <optional>
#include <string>
#include <string_view>

#include "text/unicode/regex.h"

namespace taipan {

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
extern const char* const kGpt2Pattern;
extern const char* const kLlama3Pattern;

class WordPattern {
 public:
  // In Oniguruma's syntax; UserErrors name `where`.
  WordPattern(const std::string& pattern, const std::string& where);
  // Always by PCRE2.
  explicit WordPattern(Regex regex) : regex_(std::move(regex)) {}

  bool by_hand() const { return known_ != Known::kNone; }

  // Calls f(begin, end, is_match) for every match and every stretch between matches, from left to right. The text is
  // valid UTF-8.
  template <class F>
  void ForEach(std::string_view text, F&& f) const {
    if (known_ != Known::kNone) {
      for (size_t at = 0; at < text.size();) {
        const size_t end = NextWord(text, at);
        f(at, end, true);
        at = end;
      }
      return;
    }
    Regex::Search search(*regex_, text);
    size_t done = 0, begin = 0, end = 0;
    while (search.Next(&begin, &end)) {
      if (begin > done) f(done, begin, false);
      f(begin, end, true);
      done = end;
    }
    if (done < text.size()) f(done, text.size(), false);
  }

  // A text that is cut before the space at `at`, behind another character, and may go on in any way: whether the words
  // of both parts are those of the whole, but for a stretch between matches that the cut lies in. It is [begin, end)
  // then, as far as it is known; else begin == end.
  struct Cut {
    bool safe = false;
    size_t begin = 0, end = 0;
  };
  Cut CutAt(std::string_view text, size_t at) const;

 private:
  enum class Known { kNone, kGpt2, kLlama3, kQwen2 };

  size_t NextWord(std::string_view text, size_t at) const;  // the end of the word at `at`, for known patterns

  Known known_ = Known::kNone;
  std::optional<Regex> regex_;  // unless known
};

}  // namespace taipan
