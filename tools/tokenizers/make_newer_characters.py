#!/usr/bin/env python3
"""Writes src/text/unicode/newer_character_table.cc: the characters that Unicode 16.0 has and 14.0 lacks.

Needs Python 3.11 (its unicodedata is 14.0) and the packages unicodedata2 16.0.0 and regex (for scripts).

    python3 tools/tokenizers/make_newer_characters.py >src/text/unicode/newer_character_table.cc
"""
import sys
import unicodedata

import regex
import unicodedata2

# Scripts that 14.0 has; a script that it lacks has no name in a pattern either.
SCRIPTS = ("Arabic", "Cyrillic", "Devanagari", "Han", "Hiragana", "Kannada", "Katakana", "Latin", "Telugu")

HEAD = """// Made by tools/tokenizers/make_newer_characters.py, do not edit.
#include "text/unicode/newer_characters.h"

namespace taipan {

std::span<const NewerCharacters> AllNewerCharacters() {
  // clang-format off
  static constexpr NewerCharacters kAll[] = {
"""
TAIL = """  };
  // clang-format on
  return kAll;
}

}  // namespace taipan
"""


def main():
    for module, version in ((unicodedata, "14.0.0"), (unicodedata2, "16.0.0")):
        if module.unidata_version != version:
            sys.exit(f"{module.__name__} is of Unicode {module.unidata_version}, not {version}")
    scripts = {name: regex.compile(rf"\p{{Script={name}}}") for name in SCRIPTS}
    ranges = []
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata2.category(character)
        if unicodedata.category(character) != "Cn" or category == "Cn":
            continue
        script = next((name for name, pattern in scripts.items() if pattern.match(character)), "")
        if ranges and ranges[-1][1:] == [code - 1, category, script]:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, category, script])
    sys.stdout.write(HEAD)
    line = "   "
    for first, last, category, script in ranges:
        item = f' {{0x{first:X}, 0x{last:X}, "{category}", "{script}"}},'
        if len(line + item) > 120:
            print(line)
            line = "   "
        line += item
    print(line)
    sys.stdout.write(TAIL)


if __name__ == "__main__":
    main()
