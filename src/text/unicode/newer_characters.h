#pragma once
// The characters that Unicode 16.0 has and 14.0 lacks. PCRE2 and utf8proc come with the tables of the system's version
// (14.0 and 15.0 in Debian 12), Hugging Face's tokenizers with those of 16.0: what a class lacks is taken from here.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace taipan {

struct NewerCharacters {
  uint32_t first, last;
  std::string_view category, script;  // "Lo", "Han"; a script that is newer itself has no name here
};

std::span<const NewerCharacters> AllNewerCharacters();  // in order

// The category of a character, "" where it is not one of these.
std::string_view NewerCategory(uint32_t c);

// Those of a category ("Lo"), a group of categories ("L") or a script ("Han") as members of a character class.
std::string NewerMembers(std::string_view property);

}  // namespace taipan
