#include "cli/token_lines.h"

#include <charconv>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fields.h"
#include "base/files.h"
#include "data/file_kind.h"
#include "data/unpack.h"
#include "text/unicode/utf8.h"

namespace taipan {
namespace {

constexpr size_t kCutCharacter = 4;  // bytes that may lack their end

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

TextHead ReadInputHead(const std::string& path, int64_t bytes) {
  const std::string name = InputName(path);
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& in = path == "-" ? std::cin : file;
  std::string head(static_cast<size_t>(bytes), '\0');
  if (in) in.read(head.data(), bytes);
  if (in.bad() || (in.fail() && !in.eof())) throw UserError(name, fmt::format("cannot read: {}", std::strerror(errno)));
  head.resize(static_cast<size_t>(in.gcount()));
  bool whole = in.eof() || in.peek() == std::istream::traits_type::eof();
  if (PackingOf(head) != Packing::kNone) {
    std::string unpacked = UnpackHead(head, bytes);
    whole = whole && static_cast<int64_t>(unpacked.size()) < bytes;
    if (!whole) head = std::move(unpacked);
  }
  std::string text = AsText(whole ? name : WithoutPacking(name), std::move(head));
  if (!whole) text.resize(ValidUtf8Size(text) + kCutCharacter > text.size() ? ValidUtf8Size(text) : text.size());
  return {std::move(text), whole};
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
