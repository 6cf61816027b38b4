// Letters of Unicode and their cases. utf8proc knows the mappings of one character to one; those to several are here.

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

#include "text/jinja/text.h"
#include "text/unicode/utf8.h"

namespace taipan::jinja {
namespace {

struct Expansion {
  uint32_t from;
  std::array<uint32_t, 3> upper;  // 0: none
};

// Unicode's SpecialCasing.txt: every character whose upper case is several.
constexpr Expansion kExpansions[] = {
    {0x00DF, {0x0053, 0x0053}},         {0x0149, {0x02BC, 0x004E}},         {0x01F0, {0x004A, 0x030C}},
    {0x0390, {0x0399, 0x0308, 0x0301}}, {0x03B0, {0x03A5, 0x0308, 0x0301}}, {0x0587, {0x0535, 0x0552}},
    {0x1E96, {0x0048, 0x0331}},         {0x1E97, {0x0054, 0x0308}},         {0x1E98, {0x0057, 0x030A}},
    {0x1E99, {0x0059, 0x030A}},         {0x1E9A, {0x0041, 0x02BE}},         {0x1F50, {0x03A5, 0x0313}},
    {0x1F52, {0x03A5, 0x0313, 0x0300}}, {0x1F54, {0x03A5, 0x0313, 0x0301}}, {0x1F56, {0x03A5, 0x0313, 0x0342}},
    {0x1F80, {0x1F08, 0x0399}},         {0x1F81, {0x1F09, 0x0399}},         {0x1F82, {0x1F0A, 0x0399}},
    {0x1F83, {0x1F0B, 0x0399}},         {0x1F84, {0x1F0C, 0x0399}},         {0x1F85, {0x1F0D, 0x0399}},
    {0x1F86, {0x1F0E, 0x0399}},         {0x1F87, {0x1F0F, 0x0399}},         {0x1F88, {0x1F08, 0x0399}},
    {0x1F89, {0x1F09, 0x0399}},         {0x1F8A, {0x1F0A, 0x0399}},         {0x1F8B, {0x1F0B, 0x0399}},
    {0x1F8C, {0x1F0C, 0x0399}},         {0x1F8D, {0x1F0D, 0x0399}},         {0x1F8E, {0x1F0E, 0x0399}},
    {0x1F8F, {0x1F0F, 0x0399}},         {0x1F90, {0x1F28, 0x0399}},         {0x1F91, {0x1F29, 0x0399}},
    {0x1F92, {0x1F2A, 0x0399}},         {0x1F93, {0x1F2B, 0x0399}},         {0x1F94, {0x1F2C, 0x0399}},
    {0x1F95, {0x1F2D, 0x0399}},         {0x1F96, {0x1F2E, 0x0399}},         {0x1F97, {0x1F2F, 0x0399}},
    {0x1F98, {0x1F28, 0x0399}},         {0x1F99, {0x1F29, 0x0399}},         {0x1F9A, {0x1F2A, 0x0399}},
    {0x1F9B, {0x1F2B, 0x0399}},         {0x1F9C, {0x1F2C, 0x0399}},         {0x1F9D, {0x1F2D, 0x0399}},
    {0x1F9E, {0x1F2E, 0x0399}},         {0x1F9F, {0x1F2F, 0x0399}},         {0x1FA0, {0x1F68, 0x0399}},
    {0x1FA1, {0x1F69, 0x0399}},         {0x1FA2, {0x1F6A, 0x0399}},         {0x1FA3, {0x1F6B, 0x0399}},
    {0x1FA4, {0x1F6C, 0x0399}},         {0x1FA5, {0x1F6D, 0x0399}},         {0x1FA6, {0x1F6E, 0x0399}},
    {0x1FA7, {0x1F6F, 0x0399}},         {0x1FA8, {0x1F68, 0x0399}},         {0x1FA9, {0x1F69, 0x0399}},
    {0x1FAA, {0x1F6A, 0x0399}},         {0x1FAB, {0x1F6B, 0x0399}},         {0x1FAC, {0x1F6C, 0x0399}},
    {0x1FAD, {0x1F6D, 0x0399}},         {0x1FAE, {0x1F6E, 0x0399}},         {0x1FAF, {0x1F6F, 0x0399}},
    {0x1FB2, {0x1FBA, 0x0399}},         {0x1FB3, {0x0391, 0x0399}},         {0x1FB4, {0x0386, 0x0399}},
    {0x1FB6, {0x0391, 0x0342}},         {0x1FB7, {0x0391, 0x0342, 0x0399}}, {0x1FBC, {0x0391, 0x0399}},
    {0x1FC2, {0x1FCA, 0x0399}},         {0x1FC3, {0x0397, 0x0399}},         {0x1FC4, {0x0389, 0x0399}},
    {0x1FC6, {0x0397, 0x0342}},         {0x1FC7, {0x0397, 0x0342, 0x0399}}, {0x1FCC, {0x0397, 0x0399}},
    {0x1FD2, {0x0399, 0x0308, 0x0300}}, {0x1FD3, {0x0399, 0x0308, 0x0301}}, {0x1FD6, {0x0399, 0x0342}},
    {0x1FD7, {0x0399, 0x0308, 0x0342}}, {0x1FE2, {0x03A5, 0x0308, 0x0300}}, {0x1FE3, {0x03A5, 0x0308, 0x0301}},
    {0x1FE4, {0x03A1, 0x0313}},         {0x1FE6, {0x03A5, 0x0342}},         {0x1FE7, {0x03A5, 0x0308, 0x0342}},
    {0x1FF2, {0x1FFA, 0x0399}},         {0x1FF3, {0x03A9, 0x0399}},         {0x1FF4, {0x038F, 0x0399}},
    {0x1FF6, {0x03A9, 0x0342}},         {0x1FF7, {0x03A9, 0x0342, 0x0399}}, {0x1FFC, {0x03A9, 0x0399}},
    {0xFB00, {0x0046, 0x0046}},         {0xFB01, {0x0046, 0x0049}},         {0xFB02, {0x0046, 0x004C}},
    {0xFB03, {0x0046, 0x0046, 0x0049}}, {0xFB04, {0x0046, 0x0046, 0x004C}}, {0xFB05, {0x0053, 0x0054}},
    {0xFB06, {0x0053, 0x0054}},         {0xFB13, {0x0544, 0x0546}},         {0xFB14, {0x0544, 0x0535}},
    {0xFB15, {0x0544, 0x053B}},         {0xFB16, {0x054E, 0x0546}},         {0xFB17, {0x0544, 0x053D}},
};

constexpr uint32_t kSigma = 0x3A3, kFinalSigma = 0x3C2, kIota = 0x399, kIotaBelow = 0x345;

const Expansion* Expanded(uint32_t c) {
  const auto* it = std::lower_bound(std::begin(kExpansions), std::end(kExpansions), c,
                                    [](const Expansion& e, uint32_t code) { return e.from < code; });
  return it != std::end(kExpansions) && it->from == c ? it : nullptr;
}

uint32_t Simple(utf8proc_int32_t (*map)(utf8proc_int32_t), uint32_t c) {
  return static_cast<uint32_t>(map(static_cast<utf8proc_int32_t>(c)));
}

void AppendUpper(uint32_t c, std::string& out) {
  if (const Expansion* e = Expanded(c)) {
    for (const uint32_t u : e->upper) out += u != 0 ? EncodeUtf8(u) : "";
  } else {
    out += EncodeUtf8(Simple(utf8proc_toupper, c));
  }
}

// Sigma aside.
void AppendLower(uint32_t c, std::string& out) {
  out += c == 0x130 ? "i\xCC\x87" : EncodeUtf8(Simple(utf8proc_tolower, c));
}

void AppendTitle(uint32_t c, std::string& out) {
  const Expansion* e = Expanded(c);
  if (e == nullptr) {
    out += EncodeUtf8(Simple(utf8proc_totitle, c));
    return;
  }
  const bool ligature = c == 0xDF || c == 0x587 || c >= 0xFB00;  // only the first letter becomes large
  const bool greek = c >= 0x1F80 && c < 0x2000;
  uint32_t last = 0;
  for (const uint32_t u : e->upper) last = u != 0 ? u : last;
  const uint32_t low = c & 0xF;
  const bool keeps_iota = greek && last == kIota && c >= 0x1FB0 && (low == 2 || low == 4 || low == 7);
  if (greek && last == kIota && !keeps_iota) {
    out += EncodeUtf8(Simple(utf8proc_totitle, c));
    return;
  }
  for (size_t i = 0; i < e->upper.size() && e->upper[i] != 0; ++i) {
    if (ligature && i > 0) {
      AppendLower(e->upper[i], out);
    } else {
      out += EncodeUtf8(keeps_iota && e->upper[i] == kIota ? kIotaBelow : e->upper[i]);
    }
  }
}

utf8proc_category_t Category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool IsCaseIgnorable(uint32_t c) {
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_LM || category == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' ||
         c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

bool IsCased(uint32_t c) { return IsOf(c, CharacterClass::kCased); }

// Sigma at the end of a word has a form of its own.
bool IsFinal(const std::vector<std::string_view>& all, size_t at) {
  const auto cased = [&](size_t i, bool& decided) {
    const auto c = CodePoint(all[i]);
    decided = !c || !IsCaseIgnorable(*c);
    return decided && c && IsCased(*c);
  };
  bool before = false, decided = false;
  for (size_t i = at; i-- > 0 && !decided;) before = cased(i, decided);
  bool after = false;
  decided = false;
  for (size_t i = at + 1; i < all.size() && !decided; ++i) after = cased(i, decided);
  return before && !after;
}

enum class To { kUpper, kLower, kTitle };

// choose(character, i): its case. Bytes that are no character stay.
template <class Choose>
std::string Mapped(std::string_view text, Choose choose) {
  const std::vector<std::string_view> all = Characters(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const auto c = CodePoint(all[i]);
    const To to = choose(c.value_or(0), i);
    if (!c) {
      out += all[i];
    } else if (to == To::kLower && *c == kSigma) {
      out += EncodeUtf8(IsFinal(all, i) ? kFinalSigma : kSigma + 0x20);
    } else {
      (to == To::kUpper ? AppendUpper : to == To::kLower ? AppendLower : AppendTitle)(*c, out);
    }
  }
  return out;
}

bool IsDigitSign(uint32_t c) {  // digits that are not decimal: raised, lowered, in circles and brackets
  return c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x1369 && c <= 0x1371) || c == 0x19DA || c == 0x2070 ||
         (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468) ||
         (c >= 0x2474 && c <= 0x247C) || (c >= 0x2488 && c <= 0x2490) || c == 0x24EA || (c >= 0x24F5 && c <= 0x24FD) ||
         c == 0x24FF || (c >= 0x2776 && c <= 0x277E) || (c >= 0x2780 && c <= 0x2788) || (c >= 0x278A && c <= 0x2792);
}

}  // namespace

std::string Upper(std::string_view text) {
  return Mapped(text, [](uint32_t, size_t) { return To::kUpper; });
}

std::string Lower(std::string_view text) {
  return Mapped(text, [](uint32_t, size_t) { return To::kLower; });
}

std::string Capitalized(std::string_view text) {
  return Mapped(text, [](uint32_t, size_t i) { return i == 0 ? To::kTitle : To::kLower; });
}

std::string TitleCased(std::string_view text) {
  bool inside = false;
  return Mapped(text, [&](uint32_t c, size_t) { return std::exchange(inside, IsCased(c)) ? To::kLower : To::kTitle; });
}

std::string SwappedCase(std::string_view text) {
  return Mapped(text, [](uint32_t c, size_t) { return IsOf(c, CharacterClass::kUpper) ? To::kLower : To::kUpper; });
}

std::string CaseFolded(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (size < 0) return std::string(text);  // not all of it is UTF-8
  return std::string(reinterpret_cast<const char*>(folded), static_cast<size_t>(size));
}

bool IsOf(uint32_t c, CharacterClass one) {
  const auto category = Category(c);
  const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
  const bool number = category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
  const bool lower = category == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA;
  switch (one) {
    case CharacterClass::kAlpha:
      return letter;
    case CharacterClass::kDecimal:
      return category == UTF8PROC_CATEGORY_ND;
    case CharacterClass::kDigit:
      return category == UTF8PROC_CATEGORY_ND || IsDigitSign(c);
    case CharacterClass::kNumeric:
      return number;
    case CharacterClass::kAlnum:
      return letter || number;
    case CharacterClass::kLower:
      return lower;
    case CharacterClass::kUpper:
      return category == UTF8PROC_CATEGORY_LU;
    case CharacterClass::kTitle:
      return category == UTF8PROC_CATEGORY_LT;
    case CharacterClass::kCased:
      return lower || category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT;
    case CharacterClass::kPrintable:
      return c == ' ' || (category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS);
  }
  return false;
}

}  // namespace taipan::jinja
