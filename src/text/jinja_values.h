#pragma once
// Values of templates, as Python shows, compares and adds them.

#include <string>
#include <vector>

#include "text/jinja_syntax.h"

namespace taipan::jinja {

// Arguments after evaluation. `where` and `line` are for errors.
struct Call {
  const std::string& where;
  int line;
  std::string name;
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument in place `i`, or of this name; null where it is not given.
  const Value* Argument(size_t i, std::string_view argument) const;
  // Refuses more than `most` positional arguments and names that are not in `names`.
  void Allow(size_t most, const std::vector<std::string_view>& names = {}) const;
  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected = "",
                           const std::string& found = "") const;
};

inline Value Undefined() { return Value(Value::value_t::discarded); }
bool Truth(const Value& value);
bool Equal(const Value& a, const Value& b);
std::string TypeName(const Value& value);  // as Python names it
// What `{{ value }}` prints. Lists and dicts are refused: nobody prints one on purpose.
std::string Show(const Value& value, const Call& call);
// `part in whole`.
bool Contains(const Value& whole, const Value& part, const Call& call);
// The elements that a loop visits: of a list, the keys of a dict, the characters of a string.
std::vector<Value> Elements(const Value& value, const Call& call);
Value Item(const Value& object, const Value& index);
Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step, const Call& call);

// Refused unless the value has a length, is a string, is a whole number or bool.
int64_t Length(const Value& value, const Call& call);
const std::string& Text(const Value& value, const Call& call);
int64_t Integer(const Value& value, const Call& call);
bool IsInteger(const Value& value);  // bools too
// op: + - * // %
Value Arithmetic(const std::string& op, Value a, const Value& b, const Call& call);
// op: == != < <= > >= in, not in
bool Compare(const std::string& op, const Value& a, const Value& b, const Call& call);

}  // namespace taipan::jinja
