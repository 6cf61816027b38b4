#pragma once
// Values of templates: how Python shows and compares them; filters, tests and methods by name.

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

Value ApplyFilter(const Value& input, const Call& call);
bool ApplyTest(const Value& input, const Call& call);
Value CallMethod(const Value& object, const Call& call);

}  // namespace taipan::jinja
