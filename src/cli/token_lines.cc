#include "cli/token_lines.h"

#include <charconv>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "data/file_kind.h"

namespace taipan {
namespace {

std::vector<int32_t> ParseTokens(std::string_view line, int64_t vocab, const std::string& where) {
  const Json json = ParseJson(line, where);
  if (!json.is_array()) throw UserError({where, "not a token sequence", "a JSON array of ids", DescribeJson(json)});
  if (json.empty()) throw UserError({where, "the token sequence is empty", "at least one id", "[]"});
  std::vector<int32_t> tokens;
  tokens.reserve(json.size());
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& id = json[i];
    const bool fits = id.is_number_integer() && (!id.is_number_unsigned() || id.get<uint64_t>() < uint64_t{1} << 31) &&
                      id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab;
    if (!fits) {
      throw UserError({where, fmt::format("token {} is not an id of this model", i),
                       fmt::format("an integer from 0 to {}", vocab - 1), DescribeJson(id)});
    }
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

}  // namespace

std::string InputName(const std::string& path) { return path == "-" ? "standard input" : path; }

std::string ReadInput(const std::string& path) {
  if (path != "-") return AsText(path, ReadFile(path));
  return AsText(InputName(path), {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()});
}

void ForEachLine(std::string_view text, const std::string& name,
                 const std::function<void(std::string_view, const std::string&)>& f) {
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    ++number;
    if (line.find_first_not_of(" \t\r") != line.npos) f(line, fmt::format("{}: line {}", name, number));
    begin = end + 1;
  }
}

std::vector<std::vector<int32_t>> ParseTokenLines(const std::string& text, int64_t vocab, const std::string& where) {
  std::vector<std::vector<int32_t>> sequences;
  ForEachLine(text, where, [&](std::string_view line, const std::string& place) {
    sequences.push_back(ParseTokens(line, vocab, place));
  });
  if (sequences.empty()) throw UserError({where, "no token sequences", "a JSON array of ids a line", "an empty file"});
  return sequences;
}

std::string FormatIds(const std::vector<int32_t>& ids, bool object) {
  std::string line = object ? "{\"ids\": [" : "[";
  char digits[16];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) line += ", ";
    line.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
  return line + (object ? "]}\n" : "]\n");
}

}  // namespace taipan
