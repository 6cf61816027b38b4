#include "data/json_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace taipan {
namespace {

const char* const kExpected = R"({"text": "..."})";

std::string Describe(const nlohmann::json& json) {
  if (!json.is_object()) return json.type_name();
  if (json.contains("text")) return fmt::format("\"text\" that is {}", json["text"].type_name());
  std::string keys;
  for (const auto& [key, value] : json.items()) {
    if (keys.size() > 60) return "the keys " + keys + ", ...";
    keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", key);
  }
  return keys.empty() ? "{}" : "the keys " + keys;
}

// null: there is no text in it.
std::string* TextOf(nlohmann::json& json) {
  if (!json.is_object() || !json.contains("text") || !json["text"].is_string()) return nullptr;
  return &json["text"].get_ref<std::string&>();
}

nlohmann::json Parse(std::string_view text, const std::string& path, int64_t first_line, const char* problem,
                     const char* expected) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    const auto* parse_error = dynamic_cast<const nlohmann::json::parse_error*>(&error);
    const size_t byte = parse_error ? std::min(parse_error->byte, text.size()) : 0;
    const auto line = first_line + std::count(text.begin(), text.begin() + static_cast<int64_t>(byte), '\n');
    const size_t line_begin = text.substr(0, byte).rfind('\n') + 1;  // npos + 1 is 0
    throw UserError({fmt::format("{}:{}", path, line), problem, expected,
                     fmt::format("an error at byte {} of the line", byte - line_begin)});
  }
}

void ForEachInLines(std::string_view all, const std::string& path, const TextUse& use) {
  if (all.starts_with("\xef\xbb\xbf")) all.remove_prefix(3);
  int64_t line_number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view line = all.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    nlohmann::json json = Parse(line, path, line_number, "not a line of JSON", kExpected);
    std::string* const text = TextOf(json);
    if (text == nullptr) {
      throw UserError(
          {fmt::format("{}:{}", path, line_number), "no string \"text\" on this line", kExpected, Describe(json)});
    }
    use(std::move(*text));
  }
}

void ForEachInList(std::string_view all, const std::string& path, const TextUse& use) {
  nlohmann::json list = Parse(all, path, 1, "not valid JSON", R"([{"text": "..."}, ...])");
  int64_t number = 0;
  for (nlohmann::json& element : list) {
    ++number;
    std::string* const text = TextOf(element);
    if (text == nullptr) {
      throw UserError(
          {path, fmt::format("no string \"text\" in element {} of the list", number), kExpected, Describe(element)});
    }
    use(std::move(*text));
  }
}

}  // namespace

void ForEachJsonText(std::string_view all, DataKind kind, const std::string& path, const TextUse& use) {
  kind == DataKind::kJsonList ? ForEachInList(all, path, use) : ForEachInLines(all, path, use);
}

}  // namespace taipan
