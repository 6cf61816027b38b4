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

nlohmann::json ParseList(std::string_view text, const std::string& path) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    const auto* parse_error = dynamic_cast<const nlohmann::json::parse_error*>(&error);
    const size_t byte = parse_error ? std::min(parse_error->byte, text.size()) : 0;
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<int64_t>(byte), '\n');
    const size_t line_begin = text.substr(0, byte).rfind('\n') + 1;  // npos + 1 is 0
    throw UserError({fmt::format("{}:{}", path, line), "not valid JSON", R"([{"text": "..."}, ...])",
                     fmt::format("an error at byte {} of the line", byte - line_begin)});
  }
}

void ForEachInLines(std::string_view all, const std::string& path, const ObjectUse& use) {
  if (all.starts_with("\xef\xbb\xbf")) all.remove_prefix(3);
  int64_t line_number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view line = all.substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, line_number);
    use(ParseObject(line, where), where);
  }
}

void ForEachInList(std::string_view all, const std::string& path, const ObjectUse& use) {
  nlohmann::json list = ParseList(all, path);
  int64_t number = 0;
  for (nlohmann::json& element : list) use(std::move(element), WhereOfElement(path, ++number));
}

}  // namespace

void ForEachObject(std::string_view all, DataKind kind, const std::string& path, const ObjectUse& use) {
  kind == DataKind::kJsonList ? ForEachInList(all, path, use) : ForEachInLines(all, path, use);
}

nlohmann::json ParseObject(std::string_view object, const std::string& where) {
  try {
    return nlohmann::json::parse(object);
  } catch (const nlohmann::json::exception& error) {
    const auto* parse_error = dynamic_cast<const nlohmann::json::parse_error*>(&error);
    throw UserError({where, "not a line of JSON", kExpected,
                     fmt::format("an error at byte {} of the line", parse_error ? parse_error->byte : 0)});
  }
}

std::vector<std::string> ElementsOf(std::string_view list, const std::string& path) {
  std::vector<std::string> elements;
  for (const nlohmann::json& element : ParseList(list, path)) elements.push_back(element.dump());
  return elements;
}

std::string WhereOfElement(const std::string& path, int64_t number) {
  return fmt::format("{}: element {} of the list", path, number);
}

const std::string& TextOf(const nlohmann::json& object, const std::string& where) {
  if (object.is_object() && object.contains("text") && object["text"].is_string()) {
    return object["text"].get_ref<const std::string&>();
  }
  throw UserError({where, "no string \"text\"", kExpected, Describe(object)});
}

}  // namespace taipan
