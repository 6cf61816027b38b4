#pragma once
// Input of commands: whole files or standard input ("-"), and token sequences, one JSON array of ids a line.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

// Text; gzip and Zstandard are unpacked, what looks like something else (an image, an archive, UTF-16) is a UserError.
std::string ReadInput(const std::string& path);
// The beginning of such a text, about `bytes` of it, cut between characters; the rest is not read.
struct TextHead {
  std::string text;
  bool whole = true;
};
TextHead ReadInputHead(const std::string& path, int64_t bytes);
// How errors name the input.
std::string InputName(const std::string& path);

// f(line, "NAME: line 3") for each line that is not blank.
void ForEachLine(std::string_view text, const std::string& name,
                 const std::function<void(std::string_view, const std::string&)>& f);

// UserErrors name the file, the line (from 1) and what is wrong: no JSON, no list, an empty list, ids that are not
// integers or lie outside [0, vocab).
std::vector<std::vector<int32_t>> ParseTokenLines(const std::string& text, int64_t vocab, const std::string& where);

// [1, 2], or {"ids": [1, 2]}, and a line feed.
std::string FormatIds(const std::vector<int32_t>& ids, bool object);

}  // namespace taipan
