#include "text/unicode/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
constexpr size_t kJitStack = size_t{64} << 20;  // bytes; PCRE2's own 32 KB come first
constexpr size_t kMaxPattern = size_t{1} << 16;

// Whether \G or ^ stands in the pattern, which depend on what is before a match and are not counted as looking there.
bool HasAnchors(std::string_view pattern) {
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (++i < pattern.size() && pattern[i] == 'G') return true;
    } else if (c == '[') {
      in_class = true;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') ++i;
    } else if (c == ']') {
      in_class = false;
    } else if (c == '^' && !in_class) {
      return true;
    }
  }
  return false;
}

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Regex::Regex(const std::string& pcre2_pattern, const std::string& where) : pattern_(pcre2_pattern), where_(where) {
  if (pattern_.size() > kMaxPattern) {
    throw UserError({where, "the regular expression is too long", fmt::format("at most {} bytes", kMaxPattern),
                     std::to_string(pattern_.size())});
  }
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern_.data()), pattern_.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get());
  if (code == nullptr) {
    throw UserError(
        {.where = where,
         .problem = fmt::format("PCRE2 refuses the regular expression at byte {}: {}", offset, ErrorText(error)),
         .found = DescribeJson(ToValidUtf8(pattern_))});
  }
  code_ = std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it cannot, pcre2_match interprets
  uint32_t behind = 1, empty = 1;
  pcre2_pattern_info(code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &empty);
  looks_ahead_only_ = behind == 0 && empty == 0 && !HasAnchors(pattern_);
}

Regex Regex::FromOniguruma(const std::string& pattern, const std::string& where) {
  return {TranslateOniguruma(pattern, where), where};
}

struct Regex::Search::Buffers {
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match{pcre2_match_data_create(1, nullptr),
                                                                       pcre2_match_data_free};
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context{pcre2_match_context_create(nullptr),
                                                                               pcre2_match_context_free};
  std::unique_ptr<pcre2_jit_stack, void (*)(pcre2_jit_stack*)> stack{nullptr, pcre2_jit_stack_free};
};

Regex::Search::Search(const Regex& regex, std::string_view text, bool goes_on)
    : regex_(regex),
      text_(text),
      buffers_(std::make_unique<Buffers>()),
      last_end_(kNone),
      undecided_(text.size()),
      goes_on_(goes_on) {
  if (buffers_->match == nullptr || buffers_->context == nullptr) throw std::bad_alloc();
  constexpr uint64_t kSteps = 10'000'000;  // PCRE2's own limit, which long texts may exceed
  pcre2_set_match_limit(buffers_->context.get(),
                        static_cast<uint32_t>(std::min<uint64_t>(kSteps + 32 * text.size(), UINT32_MAX)));
}

Regex::Search::~Search() = default;

bool Regex::Search::Match() {
  const auto run = [&] {
    return pcre2_match(static_cast<const pcre2_code*>(regex_.code_.get()), reinterpret_cast<PCRE2_SPTR>(text_.data()),
                       text_.size(), from_, PCRE2_NO_UTF_CHECK | (goes_on_ ? PCRE2_PARTIAL_HARD : 0),
                       buffers_->match.get(), buffers_->context.get());
  };
  int result = run();
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && buffers_->stack == nullptr) {
    buffers_->stack.reset(pcre2_jit_stack_create(size_t{1} << 20, kJitStack, nullptr));
    pcre2_jit_stack_assign(buffers_->context.get(), nullptr, buffers_->stack.get());
    result = run();
  }
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result == PCRE2_ERROR_PARTIAL) {
    undecided_ = pcre2_get_ovector_pointer(buffers_->match.get())[0];
    return false;
  }
  if (result < 0) {
    throw UserError(regex_.where_, fmt::format("the regular expression fails on a text of {} bytes: {}", text_.size(),
                                               ErrorText(result)));
  }
  return true;
}

bool Regex::Search::Next(size_t* begin, size_t* end) {
  while (from_ <= text_.size() && Match()) {
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(buffers_->match.get());
    const size_t match_end = bounds[1];
    const size_t match_begin = std::min(bounds[0], match_end);  // \K in a lookahead can turn them round
    if (match_begin == match_end && match_end == last_end_) {
      from_ += std::max<size_t>(1, Utf8CharacterSize(text_.substr(from_)));
      continue;
    }
    from_ = last_end_ = match_end;
    *begin = match_begin;
    *end = match_end;
    return true;
  }
  from_ = kNone;
  return false;
}

}  // namespace taipan
