#pragma once
// A value inside of a JSON file and where it stands there, for the readers of tokenizer.json: what they do not expect
// is a UserError with the file and the path to the value.

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/fields.h"

namespace taipan {

class JsonPart {
 public:
  // The whole of a file.
  JsonPart(const Json& value, std::string file) : value_(&value), where_(std::move(file)), root_(true) {}

  const Json& value() const { return *value_; }
  // FILE: path.to[0].the_value
  const std::string& where() const { return where_; }

  // Null counts as absent.
  bool Has(const char* name) const;
  JsonPart Member(const char* name) const;
  JsonPart Item(size_t i) const;
  size_t ListSize() const;  // refuses what is not a list
  void RequireObject() const;

  std::string String() const;
  std::string String(const char* name) const { return Member(name).String(); }
  bool Bool(const char* name) const;
  bool Bool(const char* name, bool otherwise) const { return Has(name) ? Bool(name) : otherwise; }
  int64_t Integer(int64_t min = 0, int64_t max = std::numeric_limits<int32_t>::max()) const;

  // Refuses every other key: what we do not know might change the ids.
  void RequireKeys(std::initializer_list<const char*> known) const;
  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected) const;

 private:
  JsonPart(const Json& value, std::string where, bool root) : value_(&value), where_(std::move(where)), root_(root) {}

  const Json* value_;
  std::string where_;
  bool root_;
};

}  // namespace taipan
