#include "base/fields.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace taipan {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kMaxGuessedKey = 64;  // bytes; a longer key is nobody's typing error

std::string NumberText(double value) {
  const bool whole = std::abs(value) < 1e15 && value == std::floor(value);
  return whole ? fmt::format("{:.0f}", value) : ShortestDouble(value);
}

std::string RangeText(const NumberRange& range) {
  const bool low = range.min > -kInfinity, high = range.max < kInfinity;
  if (!low && !high) return "a finite number";
  if (low && high && !range.min_open && !range.max_open) {
    return NumberText(range.min) + " to " + NumberText(range.max);
  }
  std::string text;
  if (low) text = (range.min_open ? "above " : "at least ") + NumberText(range.min);
  if (high) text += std::string(low ? " and " : "") + (range.max_open ? "below " : "at most ") + NumberText(range.max);
  return text;
}

// Written so that a NaN is outside.
bool InRange(double value, const NumberRange& range) {
  return std::isfinite(value) && (range.min_open ? value > range.min : value >= range.min) &&
         (range.max_open ? value < range.max : value <= range.max);
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + ('"' + words[i] + '"');
  }
  return text;
}

bool IsInfinity(const Json& value) {
  return value.is_null() ||
         (value.is_object() && value.size() == 1 && value.contains("__float__") && value["__float__"] == "Infinity");
}

// Converts one JSON value into one field; the overloads are the types of FieldPointer.
class Reader {
 public:
  Reader(const std::string& where, const FieldInfo& info) : where_(where), info_(info) {}

  void Read(const Json& value, bool* field) const {
    if (!value.is_boolean()) WrongType("true or false", value);
    *field = value.get<bool>();
  }

  void Read(const Json& value, int64_t* field) const {
    if (!value.is_number_integer()) WrongType("an integer", value);
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) {
      WrongType("an integer below 2^63", value);
    }
    *field = value.get<int64_t>();
    CheckRange(where_, info_.name, *field, info_.range);
  }

  void Read(const Json& value, double* field) const {
    *field = Number(value, "a number");
    CheckRange(where_, info_.name, *field, info_.range);
  }

  void Read(const Json& value, std::string* field) const {
    if (!value.is_string()) WrongType("a string", value);
    *field = value.get<std::string>();
    CheckChoice(value);
  }

  template <class T>
  void Read(const Json& value, std::optional<T>* field) const {
    *field = std::nullopt;
    if (!value.is_null()) Read(value, &field->emplace());
  }

  void Read(const Json& value, std::array<double, 2>* field) const {
    if (!value.is_array() || value.size() != 2) WrongType("a list of two numbers, null for infinity", value);
    for (size_t i = 0; i < 2; ++i) {
      (*field)[i] = IsInfinity(value[i]) ? kInfinity : Number(value[i], "two numbers, null for infinity");
    }
  }

  void Read(const Json& value, Json* field) const { *field = value; }

  template <class T>
  void Read(const Json& value, std::vector<T>* field) const {
    if (!value.is_array()) WrongType(std::is_same_v<T, double> ? "a list of numbers" : "a list of strings", value);
    field->assign(value.size(), T{});
    for (size_t i = 0; i < value.size(); ++i) Read(value[i], &(*field)[i]);
  }

 private:
  double Number(const Json& value, const char* expected) const {
    if (!value.is_number()) WrongType(expected, value);
    return value.get<double>();
  }

  void CheckChoice(const Json& value) const {
    const auto& word = value.get_ref<const std::string&>();
    if (info_.choices.empty() || std::find(info_.choices.begin(), info_.choices.end(), word) != info_.choices.end())
      return;
    const std::string near = word.size() <= kMaxGuessedKey ? NearestName(word, info_.choices) : "";
    throw UserError({where_, info_.name, Join(info_.choices), DescribeJson(value),
                     near.empty() ? "" : "did you mean \"" + near + "\"?"});
  }

  [[noreturn]] void WrongType(const char* expected, const Json& value) const {
    throw UserError({where_, info_.name + " has the wrong type", expected, DescribeJson(value)});
  }

  const std::string& where_;
  const FieldInfo& info_;
};

// The JSON text of one field at an indentation of one space.
struct Writer {
  static std::string Text(bool value) { return value ? "true" : "false"; }
  static std::string Text(int64_t value) { return std::to_string(value); }
  static std::string Text(double value) {
    CHECK(std::isfinite(value));
    return ShortestDouble(value);
  }
  static std::string Text(const std::string& value) { return Text(Json(value)); }
  static std::string Text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }
  template <class T>
  static std::string Text(const std::optional<T>& value) {
    return value ? Text(*value) : "null";
  }
  static std::string Text(const std::array<double, 2>& value) {
    std::vector<std::optional<double>> ends;
    for (double end : value) ends.push_back(end == kInfinity ? std::optional<double>() : end);
    return Text(ends);
  }
  template <class T>
  static std::string Text(const std::vector<T>& values) {
    std::string text;
    for (const T& value : values) text += (text.empty() ? "\n  " : ",\n  ") + Text(value);
    return values.empty() ? "[]" : "[" + text + "\n ]";
  }
};

}  // namespace

void CheckRange(const std::string& where, const std::string& name, double value, const NumberRange& range) {
  if (InRange(value, range)) return;
  throw UserError({where, name + " is out of range", RangeText(range), ShortestDouble(value)});
}

void CheckRange(const std::string& where, const std::string& name, int64_t value, const NumberRange& range) {
  if (InRange(static_cast<double>(value), range)) return;
  throw UserError({where, name + " is out of range", RangeText(range), std::to_string(value)});
}

namespace internal {

void CheckKeys(const Json& object, const std::string& where, const std::vector<FieldInfo>& fields) {
  if (!object.is_object()) throw UserError({where, "wrong JSON", "an object", DescribeJson(object)});
  std::vector<std::string> names;
  for (const FieldInfo& field : fields) names.push_back(field.name);
  for (const auto& [key, value] : object.items()) {
    if (std::find(names.begin(), names.end(), key) != names.end()) continue;
    const std::string near = key.size() <= kMaxGuessedKey ? NearestName(key, names) : "";
    const std::string quoted = DescribeJson(key).substr(std::string("the string ").size());
    throw UserError({.where = where,
                     .problem = "unknown key " + quoted,
                     .hint = near.empty() ? "" : "did you mean \"" + near + "\"?"});
  }
  for (const FieldInfo& field : fields) {
    if (field.required && !object.contains(field.name)) {
      throw UserError({.where = where, .problem = "key \"" + field.name + "\" is missing", .hint = field.help});
    }
  }
}

void ReadField(const Json& object, const std::string& where, const FieldInfo& info, FieldPointer field) {
  const auto value = object.find(info.name);
  if (value == object.end()) return;
  std::visit([&](auto* member) { Reader(where, info).Read(*value, member); }, field);
}

void AppendField(const FieldInfo& info, FieldPointer field, std::string& text) {
  if (!info.write) return;
  const std::string value = std::visit([](auto* member) { return Writer::Text(*member); }, field);
  text += (text.empty() ? " " : ",\n ") + Writer::Text(info.name) + ": " + value;
}

std::string FinishObject(const std::string& text) { return text.empty() ? "{}\n" : "{\n" + text + "\n}\n"; }

}  // namespace internal
}  // namespace taipan
