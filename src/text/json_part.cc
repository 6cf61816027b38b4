#include "text/json_part.h"

#include <algorithm>

#include "base/error.h"

namespace taipan {

bool JsonPart::Has(const char* name) const {
  if (!value_->is_object()) return false;
  const auto it = value_->find(name);
  return it != value_->end() && !it->is_null();
}

JsonPart JsonPart::Member(const char* name) const {
  RequireObject();
  const auto it = value_->find(name);
  if (it == value_->end()) {
    throw UserError({where_, "a member is missing", fmt::format("\"{}\"", name)});
  }
  return {*it, fmt::format("{}{}{}", where_, root_ ? ": " : ".", name), false};
}

JsonPart JsonPart::Item(size_t i) const { return {(*value_)[i], fmt::format("{}[{}]", where_, i), false}; }

size_t JsonPart::ListSize() const {
  if (!value_->is_array()) Refuse("wrong type", "a list");
  return value_->size();
}

void JsonPart::RequireObject() const {
  if (!value_->is_object()) Refuse("wrong type", "an object");
}

std::string JsonPart::String() const {
  if (!value_->is_string()) Refuse("wrong type", "a string");
  return value_->get<std::string>();
}

bool JsonPart::Bool(const char* name) const {
  const JsonPart member = Member(name);
  if (!member.value_->is_boolean()) member.Refuse("wrong type", "true or false");
  return member.value_->get<bool>();
}

int64_t JsonPart::Integer(int64_t min, int64_t max) const {
  const Json& v = *value_;
  const bool fits = v.is_number_integer() && (!v.is_number_unsigned() || v.get<uint64_t>() <= uint64_t{INT64_MAX}) &&
                    v.get<int64_t>() >= min && v.get<int64_t>() <= max;
  if (!fits) Refuse("wrong value", fmt::format("an integer from {} to {}", min, max));
  return v.get<int64_t>();
}

void JsonPart::RequireKeys(std::initializer_list<const char*> known) const {
  RequireObject();
  for (const auto& [key, value] : value_->items()) {
    const bool is_known = std::any_of(known.begin(), known.end(), [&](const char* k) { return key == k; });
    if (!is_known) throw UserError({.where = where_, .problem = "unknown key", .found = DescribeJson(Json(key))});
  }
}

void JsonPart::Refuse(const std::string& problem, const std::string& expected) const {
  throw UserError({where_, problem, expected, DescribeJson(*value_)});
}

}  // namespace taipan
