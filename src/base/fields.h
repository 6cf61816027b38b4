#pragma once
// Structs as JSON objects. A struct names its fields once, in a function VisitFields; reading, writing and listing them
// are visitors of that function:
//
//   struct Options { int64_t steps = 100; Order order = Order::kShuffled; };
//   void VisitFields(Options& o, const FieldVisitor& visit) {
//     visit({.name = "steps", .help = "optimizer steps", .range = AtLeast(1)}, &o.steps);
//     VisitEnum(visit, {.name = "order", .help = "of windows"}, &o.order);
//   }
//   Options o;                                               // the defaults
//   ReadFields(ParseJson(ReadFile(path), path), path, o);
//   std::string text = WriteFields(o);
//
// An enum is visited with VisitEnum, as a string whose choices are the names of its values.

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace taipan {

using Json = nlohmann::json;

// The numbers that a field may take. Never NaN; infinite only as time-step-like pairs are (see FieldPointer).
struct NumberRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false, max_open = false;  // the bound itself is excluded
};
inline NumberRange AtLeast(double min) { return {.min = min}; }
inline NumberRange Above(double min) { return {.min = min, .min_open = true}; }
inline NumberRange Between(double min, double max) { return {.min = min, .max = max}; }
inline NumberRange AboveUpTo(double min, double max) { return {.min = min, .max = max, .min_open = true}; }
inline NumberRange AtLeastBelow(double min, double max) { return {.min = min, .max = max, .max_open = true}; }

struct FieldInfo {
  std::string name = {};                  // the key
  std::string help = {};                  // a line for people, with the unit
  bool required = false;                  // reading refuses an object without it; others keep the struct's value
  bool write = true;                      // false: accepted when reading, left out when writing
  NumberRange range = {};                 // of numbers, and of each number of a list
  std::vector<std::string> choices = {};  // of strings, and of each string of a list; empty: any
};

// The member types that a field may have. In JSON an optional without value is null. The pair is a closed interval
// whose ends may be infinite: null or {"__float__": "Infinity"} when reading, null when writing. Json is any value, for
// the struct to look into; written on one line.
using FieldPointer =
    std::variant<bool*, int64_t*, double*, std::string*, std::optional<int64_t>*, std::optional<double>*,
                 std::array<double, 2>*, std::vector<double>*, std::vector<std::string>*, Json*>;
using FieldVisitor = std::function<void(const FieldInfo&, FieldPointer)>;

// Strict JSON. Syntax errors, numbers that do not fit, duplicate keys and nesting deeper than 64 are UserErrors that
// name `where`, the line and the byte.
Json ParseJson(std::string_view text, const std::string& where);

// What a value is, for the "found" of an error: `the string "abc"`, `a list of 3 values`. One line, shortened.
std::string DescribeJson(const Json& value);

// The shortest decimal text that reads back as the same double, always with a point or an exponent: "0.0", "1e-05".
std::string ShortestDouble(double value);

// UserError naming `where` and `name` unless the finite value lies in the range.
void CheckRange(const std::string& where, const std::string& name, double value, const NumberRange& range);
void CheckRange(const std::string& where, const std::string& name, int64_t value, const NumberRange& range);

// The name of an enum's value, from the function that lists them in the order of the values:
//   enum class Order { kSequential, kShuffled };
//   inline std::vector<std::string> NamesOf(Order) { return {"sequential", "shuffled"}; }
template <class Enum>
std::string NameIn(Enum value) {
  return NamesOf(value).at(static_cast<size_t>(value));
}
template <class Enum>
Enum EnumNamed(const std::string& name) {
  const std::vector<std::string> names = NamesOf(Enum{});
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  CheckFailed(__FILE__, __LINE__, "no value of this name: " + name);
}
// A visitor that takes no other name has checked against `choices`.
template <class Enum>
void VisitEnum(const FieldVisitor& visit, FieldInfo info, Enum* value) {
  const std::vector<std::string> names = NamesOf(*value);
  info.choices = names;
  std::string name = NameIn(*value);
  visit(info, &name);
  *value = EnumNamed<Enum>(name);
}

namespace internal {
// Object, no unknown key, no required key missing.
void CheckKeys(const Json& object, const std::string& where, const std::vector<FieldInfo>& fields);
void ReadField(const Json& object, const std::string& where, const FieldInfo& info, FieldPointer field);
void AppendField(const FieldInfo& info, FieldPointer field, std::string& text);
std::string FinishObject(const std::string& text);
}  // namespace internal

// The fields in declared order.
template <class Struct>
std::vector<FieldInfo> ListFields(Struct& s) {
  std::vector<FieldInfo> fields;
  VisitFields(s, [&](const FieldInfo& info, FieldPointer) { fields.push_back(info); });
  return fields;
}

// Overwrites the fields that `object` has. UserErrors name `where` and the key: not an object, unknown key (with the
// nearest known one), missing key, wrong type, out of range, not one of the choices. On an error `s` is half-read.
template <class Struct>
void ReadFields(const Json& object, const std::string& where, Struct& s) {
  internal::CheckKeys(object, where, ListFields(s));
  VisitFields(s, [&](const FieldInfo& info, FieldPointer field) { internal::ReadField(object, where, info, field); });
}

// The text of a JSON object with the fields in declared order, one a line, elements of lists likewise; ends with '\n'.
template <class Struct>
std::string WriteFields(Struct s) {
  std::string text;
  VisitFields(s, [&](const FieldInfo& info, FieldPointer field) { internal::AppendField(info, field, text); });
  return internal::FinishObject(text);
}

}  // namespace taipan
