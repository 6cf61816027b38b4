// Tests: `value is name`.

#include <functional>
#include <map>

#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

using Test = std::function<bool(const Value&, Call&)>;

template <class F>
Test Plain(F f) {
  return [f](const Value& input, Call& call) {
    call.Bind({});
    return f(input);
  };
}

Test Comparing(const char* op) {
  return [op](const Value& input, Call& call) { return Compare(op, input, *call.Bind({"other"}, 1)[0], call.context); };
}

Test Parity(int64_t rest) {
  return [rest](const Value& input, Call& call) {
    call.Bind({});
    return Equal(Arithmetic("%", input, Value(2), call.context), Value(rest), call.context);
  };
}

bool DivisibleBy(const Value& input, Call& call) {
  return !Truth(Arithmetic("%", input, *call.Bind({"num"}, 1)[0], call.context));
}

bool SameAs(const Value& input, Call& call) {
  const Value& other = *call.Bind({"other"}, 1)[0];
  if (input.is_string() && other.is_string() && input.text() == other.text() && !input.Same(other)) {
    call.Refuse("whether two equal strings are the same object is not known");
  }
  return input.Same(other);
}

// str(value).islower() and .isupper().
Test OfCase(const char* method) {
  return [method](const Value& input, Call& call) {
    call.Bind({});
    bool any = false;
    const std::string text = Str(input, call.context);
    for (const std::string_view character : Characters(text)) {
      const auto c = CodePoint(character);
      if (!c || !IsOf(*c, CharacterClass::kCased)) continue;
      const bool lower = method == std::string_view("islower");
      if (!IsOf(*c, lower ? CharacterClass::kLower : CharacterClass::kUpper)) return false;
      any = true;
    }
    return any;
  };
}

Test Named(bool (*has)(const std::string&)) {
  return [has](const Value& input, Call& call) {
    call.Bind({});
    HashKey(input, call.context);  // refuses what Python cannot look up
    return input.is_string() && has(input.text());
  };
}

bool IsSequence(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_dict() ||
         (value.is_sequence() && value.sequence().kind < Sequence::Kind::kKeys);
}

const std::map<std::string, Test, std::less<>>& Table() {
  static const std::map<std::string, Test, std::less<>> kTable = {
      {"defined", Plain([](const Value& v) { return !v.is_undefined(); })},
      {"undefined", Plain([](const Value& v) { return v.is_undefined(); })},
      {"none", Plain([](const Value& v) { return v.is_none(); })},
      {"boolean", Plain([](const Value& v) { return v.is_bool(); })},
      {"true", Plain([](const Value& v) { return v.is_bool() && v.integer() != 0; })},
      {"false", Plain([](const Value& v) { return v.is_bool() && v.integer() == 0; })},
      {"integer", Plain([](const Value& v) { return v.is_integer() && !v.is_bool(); })},
      {"float", Plain([](const Value& v) { return v.is_float(); })},
      {"number", Plain([](const Value& v) { return v.is_number(); })},
      {"string", Plain([](const Value& v) { return v.is_string(); })},
      {"mapping", Plain([](const Value& v) { return v.is_dict(); })},
      {"sequence", Plain(IsSequence)},
      {"iterable", Plain(IsIterable)},
      {"callable", Plain([](const Value& v) { return v.is_undefined() || (v.is_object() && v.object().callable()); })},
      {"escaped", Plain([](const Value& v) { return v.safe(); })},
      {"lower", OfCase("islower")},
      {"upper", OfCase("isupper")},
      {"odd", Parity(1)},
      {"even", Parity(0)},
      {"divisibleby", DivisibleBy},
      {"sameas", SameAs},
      {"filter", Named(HasFilter)},
      {"test", Named(HasTest)},
      {"in", [](const Value& v, Call& call) { return Contains(*call.Bind({"seq"}, 1)[0], v, call.context); }},
      {"==", Comparing("==")},
      {"eq", Comparing("==")},
      {"equalto", Comparing("==")},
      {"!=", Comparing("!=")},
      {"ne", Comparing("!=")},
      {">", Comparing(">")},
      {"gt", Comparing(">")},
      {"greaterthan", Comparing(">")},
      {">=", Comparing(">=")},
      {"ge", Comparing(">=")},
      {"<", Comparing("<")},
      {"lt", Comparing("<")},
      {"lessthan", Comparing("<")},
      {"<=", Comparing("<=")},
      {"le", Comparing("<=")},
  };
  return kTable;
}

Filter FindFilter(const std::string& name) {
  for (const FilterTable* table : {&ListFilters(), &TextFilters(), &NumberFilters()}) {
    const auto found = table->find(name);
    if (found != table->end()) return found->second;
  }
  return nullptr;
}

}  // namespace

bool HasFilter(const std::string& name) { return FindFilter(name) != nullptr; }
bool HasTest(const std::string& name) { return Table().count(name) != 0; }

Value ApplyFilter(const Value& input, Call& call) {
  const Filter filter = FindFilter(call.name);
  if (filter == nullptr) call.context.Refuse("a filter that is not supported", "", call.name);
  return filter(input, call);
}

bool ApplyTest(const Value& input, Call& call) {
  const auto found = Table().find(call.name);
  if (found == Table().end()) call.context.Refuse("a test that is not supported", "", call.name);
  return found->second(input, call);
}

}  // namespace taipan::jinja
