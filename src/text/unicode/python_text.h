#pragma once
// Text as Python's str sees it: evaluations that others made with Python are rendered to the byte.

#include <cstdint>
#include <string>
#include <string_view>

namespace taipan {

// Bytes of white space (str.isspace) at the beginning and the end. Well-formed UTF-8 is expected, here and below.
size_t PythonSpaceBefore(std::string_view text);
size_t PythonSpaceAfter(std::string_view text);
std::string_view PythonStrip(std::string_view text);

// len(text).
int64_t CountCharacters(std::string_view text);

// By single characters: what becomes several (a German sharp s) stays as it is.
std::string LowerCase(std::string_view text);
// str.capitalize: the first character in title case, all others in lower case.
std::string PythonCapitalize(std::string_view text);

// str.replace: all places, from the left, none overlapping.
std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with);

}  // namespace taipan
