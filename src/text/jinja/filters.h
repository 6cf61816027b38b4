#pragma once
// Filters, tests and the functions that every template has.

#include <functional>
#include <map>
#include <string>

#include "text/jinja/value.h"

namespace taipan::jinja {

bool HasFilter(const std::string& name);
bool HasTest(const std::string& name);
// input | name(...); `call` has the name and what stands in the brackets.
Value ApplyFilter(const Value& input, Call& call);
// input is name(...)
bool ApplyTest(const Value& input, Call& call);
// range, namespace, raise_exception ...; null where there is none of this name.
const Value* GlobalFunction(const std::string& name);

using Filter = Value (*)(const Value& input, Call& call);
using FilterTable = std::map<std::string, Filter, std::less<>>;
const FilterTable& TextFilters();
const FilterTable& NumberFilters();
const FilterTable& ListFilters();

// An iterator as Python's generators are: made when it is first asked for, empty afterwards, true and without length.
Value MakeGenerator(std::function<std::vector<Value>(Context&)> make, const Value& source);
// What `value | attr` of sort, map and the like takes: a.b.0
Value AttributePath(Value object, const Value& path, const Value* otherwise, Context& context);

class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<std::string> Repr(Context& context) const override;
  std::optional<Value> Attribute(std::string_view name, Context& context) override;
  int depth() const override { return depth_; }
  void Set(const std::string& name, Value value, Context& context);
  void Clear() { values_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> values_;
  int depth_ = 1;
};

}  // namespace taipan::jinja
