#include "eval/records.h"

#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/files.h"
#include "data/file_kind.h"

namespace taipan {
namespace {

void ForEachFullLine(std::string_view text, const std::string& name,
                     const std::function<void(std::string_view, const std::string&)>& f) {
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    ++number;
    if (!line.empty()) f(line, fmt::format("{}: line {}", name, number));
    begin = end + 1;
  }
}

}  // namespace

Record::Record(Json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {
  if (!json_.is_object()) throw UserError({where_, "no record", "a JSON object", DescribeJson(json_)});
}

const Json& Record::Value(const char* key) const {
  const auto found = json_.find(key);
  if (found == json_.end()) {
    std::string keys;
    for (const auto& [name, value] : json_.items()) keys += (keys.empty() ? "" : ", ") + name;
    Refuse(fmt::format("\"{}\" is missing", key), "a record of this task", "an object with " + keys,
           "is it the file of another task?");
  }
  return *found;
}

std::string Record::Text(const char* key) const {
  const Json& value = Value(key);
  if (!value.is_string()) Refuse(fmt::format("\"{}\" is no text", key), "a text", DescribeJson(value));
  return value.get<std::string>();
}

std::vector<std::string> Record::Texts(const char* key) const {
  const Json& value = Value(key);
  std::vector<std::string> texts;
  if (value.is_array()) {
    for (const Json& part : value) {
      if (!part.is_string()) Refuse(fmt::format("\"{}\" holds what is no text", key), "texts", DescribeJson(part));
      texts.push_back(part.get<std::string>());
    }
  }
  if (texts.empty()) Refuse(fmt::format("\"{}\" is no list of texts", key), "a list of texts", DescribeJson(value));
  return texts;
}

bool Record::Flag(const char* key) const {
  const Json& value = Value(key);
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer() && (value == 0 || value == 1)) return value == 1;
  RefuseNoAnswer(fmt::format("\"{}\": {}", key, DescribeJson(value)));
}

Record Record::Object(const char* key) const {
  const Json& value = Value(key);
  if (!value.is_object()) Refuse(fmt::format("\"{}\" is no object", key), "an object", DescribeJson(value));
  return Record(value, where_);
}

std::vector<Record> Record::Objects(const char* key) const {
  const Json& value = Value(key);
  if (!value.is_array()) Refuse(fmt::format("\"{}\" is no list", key), "a list of objects", DescribeJson(value));
  std::vector<Record> records;
  for (const Json& part : value) records.emplace_back(part, where_);
  return records;
}

size_t Record::Index(const char* key, size_t count, int64_t from) const {
  const Json& value = Value(key);
  int64_t number = -1;
  if (value.is_number_integer()) {
    number = value.get<int64_t>() - from;
  } else if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    const auto end = std::from_chars(text.data(), text.data() + text.size(), number);
    number = end.ec == std::errc() && end.ptr == text.data() + text.size() && !text.empty() ? number - from : -1;
  }
  if (number < 0 || number >= static_cast<int64_t>(count))
    RefuseNoAnswer(fmt::format("\"{}\": {}", key, DescribeJson(value)));
  return static_cast<size_t>(number);
}

void Record::Refuse(const std::string& problem, const std::string& expected, const std::string& found,
                    const std::string& hint) const {
  throw UserError({where_, problem, expected, found, hint});
}

void Record::RefuseNoAnswer(const std::string& found) const {
  Refuse("no right answer", "one of the choices", found, "the test splits of some data sets are published without");
}

std::string ReadTextFile(const std::string& path) { return AsText(path, ReadFile(path)); }

std::vector<Record> ReadRecords(const std::string& path) {
  std::vector<Record> records;
  ForEachFullLine(ReadTextFile(path), path, [&](std::string_view line, const std::string& where) {
    records.emplace_back(ParseJson(line, where), where);
  });
  if (records.empty()) throw UserError({path, "no records", "a JSON object a line", "an empty file"});
  return records;
}

std::vector<std::string> ReadLabels(const std::string& path) {
  std::vector<std::string> labels;
  ForEachFullLine(ReadTextFile(path), path,
                  [&](std::string_view line, const std::string&) { labels.emplace_back(line); });
  return labels;
}

void CheckLabelCount(const std::vector<std::string>& labels, const std::string& labels_path, size_t items,
                     const std::string& items_path) {
  if (labels.size() == items) return;
  throw UserError({labels_path, "does not belong to " + items_path, fmt::format("{} labels, one a line", items),
                   fmt::format("{}", labels.size()), "is one of the files cut?"});
}

}  // namespace taipan
