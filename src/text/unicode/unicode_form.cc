// Unicode normalization by utf8proc's tables. utf8proc_map is not used: its canonical ordering takes quadratic time on
// a long run of combining marks.

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "text/normalizer.h"
#include "text/unicode/newer_characters.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

struct Range {
  uint32_t first, last;
};

// Characters with a combining class or a decomposition that Hugging Face's library (tables of Unicode 9) lacks.
constexpr Range kUnassigned[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},   {0x0C3C, 0x0C3C},
    {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x107BA},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};
// Newer than Unicode 9 is its composition with U+11935 to U+11938.
constexpr uint32_t kNewlyComposed = 0x11930;

bool IsUnknown(uint32_t c) {
  if (c < kUnassigned[0].first) return false;
  const Range* range = std::upper_bound(std::begin(kUnassigned), std::end(kUnassigned), c,
                                        [](uint32_t x, Range r) { return x < r.first; });
  return (range != std::begin(kUnassigned) && c <= range[-1].last) || !NewerCategory(c).empty();
}

bool InRange(uint32_t c, uint32_t first, uint32_t last) { return c >= first && c <= last; }

// The character stays as it is and keeps apart what stands before and behind it, whatever that is; unless a character
// that is not stable follows.
bool IsStable(uint32_t c, UnicodeForm form) {
  if (c < 0x80) return true;
  const bool composes = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  if (form == UnicodeForm::kNfc && (c < 0x300 || InRange(c, 0xAC00, 0xD7A3))) return true;
  if (InRange(c, 0x1100, 0x11FF) || InRange(c, 0xAC00, 0xD7A3) || IsUnknown(c)) return false;
  const utf8proc_property_t* p = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
  return p->combining_class == 0 && p->decomp_seqindex == UINT16_MAX && (!composes || p->comb_index == UINT16_MAX);
}

utf8proc_option_t Options(UnicodeForm form) {
  const bool compose = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

void AppendDecomposed(uint32_t c, utf8proc_option_t options, std::vector<utf8proc_int32_t>& out) {
  if (IsUnknown(c)) {
    out.push_back(static_cast<utf8proc_int32_t>(c));
    return;
  }
  utf8proc_int32_t parts[32];  // U+FDFA has 18, the most of all
  int boundary = 0;
  const utf8proc_ssize_t n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 32, options, &boundary);
  CHECK(n >= 0 && n <= 32);
  out.insert(out.end(), parts, parts + n);
}

int CombiningClass(utf8proc_int32_t c) {
  return IsUnknown(static_cast<uint32_t>(c)) ? 0 : utf8proc_get_property(c)->combining_class;
}

// Each run of combining marks in the order of their classes.
void Reorder(std::vector<utf8proc_int32_t>& text) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (CombiningClass(text[begin]) == 0) continue;
    size_t end = begin + 1;
    while (end < text.size() && CombiningClass(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end),
                     [](utf8proc_int32_t a, utf8proc_int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
}

class ChunkNormalizer {
 public:
  explicit ChunkNormalizer(UnicodeForm form) : options_(Options(form)) {}

  void Append(std::string_view chunk, std::string& out) {
    text_.clear();
    for (size_t i = 0; i < chunk.size();) {
      const size_t size = Utf8CharacterSize(chunk.substr(i));
      CHECK_GT(size, 0u);
      AppendDecomposed(DecodeUtf8(chunk.substr(i, size)), options_, text_);
      i += size;
    }
    Reorder(text_);
    for (size_t begin = 0, end = 0; begin < text_.size(); begin = end) {
      end = begin + 1;  // what nothing may compose with begins a part of its own
      while (end < text_.size() && !KeepsApart(static_cast<uint32_t>(text_[end]))) ++end;
      const utf8proc_ssize_t n =
          utf8proc_normalize_utf32(&text_[begin], static_cast<utf8proc_ssize_t>(end - begin), options_);
      CHECK_GE(n, 0);
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) out += EncodeUtf8(static_cast<uint32_t>(text_[begin + i]));
    }
  }

 private:
  static bool KeepsApart(uint32_t c) { return c == kNewlyComposed || IsUnknown(c); }

  utf8proc_option_t options_;
  std::vector<utf8proc_int32_t> text_;
};

}  // namespace

std::string_view NormalizeUnicode(std::string_view text, UnicodeForm form, std::string& buffer) {
  ChunkNormalizer chunks(form);
  bool changed = false;
  size_t copied = 0, previous = 0;  // bytes of the text in the buffer; where the character before `at` begins
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<uint8_t>(text[at]);
    const size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead < 0x80 || IsStable(DecodeUtf8(text.substr(at, size)), form)) {
      previous = at;
      at += size;
      continue;
    }
    // From the stable character before this one to the next stable one.
    const size_t begin = previous;
    while (at < text.size()) {
      const size_t next = Utf8CharacterSize(text.substr(at));
      CHECK_GT(next, 0u);
      if (IsStable(DecodeUtf8(text.substr(at, next)), form)) break;
      at += next;
    }
    if (!changed) buffer.clear();
    changed = true;
    buffer += text.substr(copied, begin - copied);
    chunks.Append(text.substr(begin, at - begin), buffer);
    copied = previous = at;
  }
  if (!changed) return text;
  buffer += text.substr(copied);
  return buffer;
}

}  // namespace taipan
