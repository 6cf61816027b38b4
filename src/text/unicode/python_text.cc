#include "text/unicode/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr std::string_view kSpaces[] = {" ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",
                                        "\x1e",   "\x1f",   "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002",
                                        "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
                                        "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

// Appends f(code point) of each character; ill-formed bytes as they are.
template <class F>
void AppendMapped(std::string_view text, std::string& out, F f) {
  for (size_t at = 0; at < text.size();) {
    const size_t size = Utf8CharacterSize(text.substr(at));
    if (size == 0) {
      out += text[at++];
      continue;
    }
    out += EncodeUtf8(static_cast<uint32_t>(f(static_cast<utf8proc_int32_t>(DecodeUtf8(text.substr(at, size))))));
    at += size;
  }
}

}  // namespace

size_t PythonSpaceBefore(std::string_view text) {
  size_t begin = 0;
  for (;;) {
    const auto* found = std::find_if(std::begin(kSpaces), std::end(kSpaces),
                                     [&](std::string_view space) { return text.substr(begin).starts_with(space); });
    if (found == std::end(kSpaces)) return begin;
    begin += found->size();
  }
}

size_t PythonSpaceAfter(std::string_view text) {
  size_t end = text.size();
  for (;;) {
    const auto* found = std::find_if(std::begin(kSpaces), std::end(kSpaces),
                                     [&](std::string_view space) { return text.substr(0, end).ends_with(space); });
    if (found == std::end(kSpaces)) return text.size() - end;
    end -= found->size();
  }
}

std::string_view PythonStrip(std::string_view text) {
  text.remove_suffix(PythonSpaceAfter(text));
  text.remove_prefix(PythonSpaceBefore(text));
  return text;
}

int64_t CountCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::string LowerCase(std::string_view text) {
  std::string out;
  AppendMapped(text, out, utf8proc_tolower);
  return out;
}

std::string PythonCapitalize(std::string_view text) {
  const size_t first = text.empty() ? 0 : std::max<size_t>(Utf8CharacterSize(text), 1);
  std::string out;
  AppendMapped(text.substr(0, first), out, utf8proc_totitle);
  AppendMapped(text.substr(first), out, utf8proc_tolower);
  return out;
}

std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(what, at);
    out += text.substr(at, found - at);
    if (found == text.npos) return out;
    out += with;
    at = found + what.size();
  }
}

}  // namespace taipan
