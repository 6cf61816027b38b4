#pragma once
// Files of evaluation data: records whose fields are asked for by name, with errors that say where they stand.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"

namespace taipan {

class Record {
 public:
  Record(Json json, std::string where);  // UserError for what is no object

  const std::string& where() const { return where_; }
  bool Has(const char* key) const { return json_.contains(key); }
  // UserErrors naming the place and the key, for a key that is missing or of another type.
  std::string Text(const char* key) const;
  std::vector<std::string> Texts(const char* key) const;
  bool Flag(const char* key) const;  // true, false, 1 or 0
  Record Object(const char* key) const;
  std::vector<Record> Objects(const char* key) const;
  const Json& Value(const char* key) const;
  // An index into `count` things: a number, or a text of one.
  size_t Index(const char* key, size_t count, int64_t from = 0) const;
  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected, const std::string& found,
                           const std::string& hint = "") const;
  // For a right answer that is not there.
  [[noreturn]] void RefuseNoAnswer(const std::string& found) const;

 private:
  Json json_;
  std::string where_;
};

// Text; gzip is unpacked.
std::string ReadTextFile(const std::string& path);
// An object a line; blank lines are skipped. UserError for an empty file.
std::vector<Record> ReadRecords(const std::string& path);
// Lines without blanks at their ends; empty ones are skipped.
std::vector<std::string> ReadLabels(const std::string& path);
// UserError where they are not as many as the items.
void CheckLabelCount(const std::vector<std::string>& labels, const std::string& labels_path, size_t items,
                     const std::string& items_path);

}  // namespace taipan
