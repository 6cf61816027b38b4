#include "text/jinja_functions.h"

#include <algorithm>
#include <ctime>
#include <limits>

#include "base/error.h"
#include "text/one_line.h"

namespace taipan::jinja {
namespace {

constexpr size_t kMaxText = size_t{1} << 28, kMaxRange = size_t{1} << 20;

// Python knows the case of every letter of Unicode; here that of ASCII.
std::string CheckedAscii(const std::string& text, const Call& call) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= 0x80) call.Refuse(call.name + " of letters outside of ASCII is not supported");
  }
  return text;
}

char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// upper, lower, capitalize, title; `filter`: title begins words only after blanks and opening brackets.
std::string ChangeCase(const std::string& input, const Call& call, bool filter) {
  std::string text = CheckedAscii(input, call);
  bool begins = true;
  for (char& c : text) {
    const bool upper = call.name == "upper" || (begins && call.name != "lower");
    const bool letter = Upper(c) != c || Lower(c) != c;
    c = upper ? Upper(c) : Lower(c);
    if (call.name == "capitalize") begins = false;
    if (call.name == "title")
      begins = filter ? std::string_view("- \t\n\v\f\r({[<").find(c) != std::string_view::npos : !letter;
  }
  return text;
}

std::string Replaced(const std::string& text, const std::string& from, const std::string& to, const Call& call) {
  if (from.empty()) call.Refuse("replace of an empty string is not supported");
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != text.npos; at = found + from.size()) {
    out.append(text, at, found - at);
    out += to;
    if (out.size() > kMaxText) call.Refuse("a text grows without end");
  }
  return out.append(text, at);
}

Value Split(const std::string& text, const Call& call) {
  const Value* by = call.Argument(0, "sep");
  const Value* limit = call.Argument(1, "maxsplit");
  int64_t left = limit != nullptr ? Integer(*limit, call) : -1;
  if (left < 0) left = std::numeric_limits<int64_t>::max();
  Value parts = Value::array();
  if (by == nullptr || by->is_null()) {
    std::string_view rest = Strip(text, true, false);
    for (; !rest.empty() && left > 0; --left) {
      size_t end = 0;
      while (end < rest.size() && Strip(rest.substr(end), true, false).size() == rest.size() - end) {
        end += CharacterLength(rest, end);
      }
      parts.push_back(std::string(rest.substr(0, end)));
      rest = Strip(rest.substr(end), true, false);
    }
    if (!rest.empty()) parts.push_back(std::string(rest));
    return parts;
  }
  const std::string& separator = Text(*by, call);
  if (separator.empty()) call.Refuse("split by an empty string");
  size_t at = 0;
  for (size_t found; left > 0 && (found = text.find(separator, at)) != text.npos;
       --left, at = found + separator.size()) {
    parts.push_back(text.substr(at, found - at));
  }
  parts.push_back(text.substr(at));
  return parts;
}

Value Stripped(const std::string& text, const Call& call, bool left, bool right) {
  call.Allow(1, {"chars"});
  const Value* chars = call.Argument(0, "chars");
  if (chars == nullptr || chars->is_null()) return std::string(Strip(text, left, right));
  const std::string_view set = Text(*chars, call);
  return std::string(Strip(text, left, right, &set));
}

Value Items(const Value& dict) {
  Value items = Value::array();
  for (const auto& [key, value] : dict.items()) items.push_back(Value::array({key, value}));
  return items;
}

// Python's json.dumps(value, ensure_ascii=False).
void AppendJson(const Value& value, std::string& out, const Call& call) {
  if (value.is_array() || value.is_object()) {
    out += value.is_array() ? '[' : '{';
    bool first = true;
    for (const auto& [key, element] : value.items()) {
      if (!first) out += ", ";
      first = false;
      if (value.is_object()) AppendJson(key, out, call);
      if (value.is_object()) out += ": ";
      AppendJson(element, out, call);
    }
    out += value.is_array() ? ']' : '}';
  } else if (value.is_string()) {
    out += '"';
    for (const char c : value.get_ref<const std::string&>()) {
      static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
      const size_t escape = kFrom.find(c);
      if (escape != kFrom.npos) {
        out += {'\\', kTo[escape]};
      } else if (static_cast<uint8_t>(c) < 0x20) {
        out += fmt::format("\\u{:04x}", static_cast<int>(c));
      } else {
        out += c;
      }
    }
    out += '"';
  } else if (value.is_null() || IsInteger(value)) {
    out += value.dump();
  } else {
    call.Refuse("tojson does not know this type", "", TypeName(value));
  }
}

std::string Joined(const Value& input, const Call& call) {
  const Value* separator = call.Argument(0, "d");
  std::string out;
  bool first = true;
  for (const Value& element : Elements(input, call)) {
    if (!first && separator != nullptr) out += Text(*separator, call);
    first = false;
    out += Show(element, call);
    if (out.size() > kMaxText) call.Refuse("a text grows without end");
  }
  return out;
}

// selectattr("role", "equalto", "user"), rejectattr, map(attribute="role").
Value ByAttribute(const Value& input, const Call& call) {
  const bool map = call.name == "map";
  call.Allow(map ? 0 : 3, {"attribute"});
  const Value* attribute = map ? call.Argument(3, "attribute") : call.Argument(0, "");
  if (attribute == nullptr) call.Refuse(call.name + " is supported with an attribute's name only");
  Call test{call.where, call.line, "", {}, {}};
  if (call.positional.size() > 1) test.name = Text(call.positional[1], call);
  if (call.positional.size() > 2) test.positional.push_back(call.positional[2]);
  Value out = Value::array();
  for (const Value& element : Elements(input, call)) {
    const Value value = Item(element, *attribute);
    if (map) {
      out.push_back(value);
    } else if ((test.name.empty() ? Truth(value) : ApplyTest(value, test)) == (call.name == "selectattr")) {
      out.push_back(element);
    }
  }
  return out;
}

Value Range(const Call& call) {
  call.Allow(3);
  std::vector<int64_t> bounds;
  for (const Value& value : call.positional) {
    if (!value.is_number_integer()) call.Refuse("range takes whole numbers", "", TypeName(value));
    bounds.push_back(value.get<int64_t>());
  }
  if (bounds.empty()) call.Refuse("range needs an argument");
  const int64_t start = bounds.size() > 1 ? bounds[0] : 0, stop = bounds.size() > 1 ? bounds[1] : bounds[0];
  const int64_t step = bounds.size() > 2 ? bounds[2] : 1;
  constexpr int64_t kMost = int64_t{1} << 40;  // keeps the sums below exact
  if (step == 0 || std::abs(start) > kMost || std::abs(stop) > kMost || std::abs(step) > kMost) {
    call.Refuse("range: a number is zero or too large");
  }
  Value list = Value::array();
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
    if (list.size() == kMaxRange) call.Refuse("range runs without end");
    list.push_back(i);
  }
  return list;
}

// The day of the rendering, as Hugging Face's function of this name.
Value Now(const Call& call) {
  call.Allow(1);
  if (call.positional.empty() || !call.positional[0].is_string()) call.Refuse("strftime_now needs a format");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[512];
  const size_t length =
      std::strftime(text, sizeof text, call.positional[0].get_ref<const std::string&>().c_str(), &local);
  return std::string(text, length);
}

}  // namespace

Value ApplyFilter(const Value& input, const Call& call) {
  const std::string& name = call.name;
  if (name == "default" || name == "d") {
    call.Allow(2, {"default_value", "boolean"});
    const Value* otherwise = call.Argument(0, "default_value");
    const Value* falsy_too = call.Argument(1, "boolean");
    const bool keep = falsy_too != nullptr && Truth(*falsy_too) ? Truth(input) : !input.is_discarded();
    return keep ? input : otherwise != nullptr ? *otherwise : Value("");
  }
  if (name == "selectattr" || name == "rejectattr" || name == "map") return ByAttribute(input, call);
  if (name == "trim") return Stripped(Show(input, call), call, true, true);
  if (name == "replace") {
    call.Allow(2, {"old", "new"});
    const Value *from = call.Argument(0, "old"), *to = call.Argument(1, "new");
    if (from == nullptr || to == nullptr) call.Refuse("replace needs two arguments");
    return Replaced(Show(input, call), Text(*from, call), Text(*to, call), call);
  }
  if (name == "join") {
    call.Allow(1, {"d"});
    return Joined(input, call);
  }
  call.Allow(0);
  if (name == "length" || name == "count") return Length(input, call);
  if (name == "string") return Show(input, call);
  if (name == "safe") return input;
  if (name == "upper" || name == "lower" || name == "capitalize" || name == "title") {
    return ChangeCase(Show(input, call), call, true);
  }
  if (name == "tojson") {
    std::string text;
    AppendJson(input, text, call);
    return text;
  }
  if (name == "items" && (input.is_object() || input.is_discarded()))
    return Items(input.is_object() ? input : Value::object());
  if (name == "list") return Value(Elements(input, call));
  if (name == "first" || name == "last") {
    const std::vector<Value> elements = Elements(input, call);
    return elements.empty() ? Undefined() : name == "first" ? elements.front() : elements.back();
  }
  call.Refuse("a filter that is not supported", "", name);
}

bool ApplyTest(const Value& input, const Call& call) {
  const std::string& name = call.name;
  const Value* other = call.Argument(0, "other");
  for (const char* binary : {"equalto", "eq", "==", "ne", "!=", "in", "divisibleby"}) {
    if (name != binary) continue;
    call.Allow(1, {"other"});
    if (other == nullptr) call.Refuse(fmt::format("the test {} needs an argument", name));
    if (name == "in") return Contains(*other, input, call);
    if (name != "divisibleby") return Equal(input, *other) == (name != "ne" && name != "!=");
    if (Integer(*other, call) == 0) call.Refuse("division by zero");
    return Integer(*other, call) == -1 || Integer(input, call) % Integer(*other, call) == 0;
  }
  call.Allow(0);
  if (name == "defined") return !input.is_discarded();
  if (name == "undefined") return input.is_discarded();
  if (name == "none") return input.is_null();
  if (name == "string") return input.is_string();
  if (name == "mapping") return input.is_object();
  if (name == "iterable") return input.is_structured() || input.is_string() || input.is_discarded();
  if (name == "sequence") return input.is_structured() || input.is_string() || input.is_discarded();
  if (name == "boolean") return input.is_boolean();
  if (name == "integer") return input.is_number_integer();
  if (name == "number") return IsInteger(input);
  if (name == "true" || name == "false") return input.is_boolean() && input.get<bool>() == (name == "true");
  if (name == "odd" || name == "even") return (Integer(input, call) % 2 != 0) == (name == "odd");
  call.Refuse("a test that is not supported", "", name);
}

Value CallMethod(const Value& object, const Call& call) {
  const std::string& name = call.name;
  if (object.is_object()) {
    if (name == "get") {
      call.Allow(2);
      if (call.positional.empty()) call.Refuse("get needs a key");
      const Value found = Item(object, call.positional[0]);
      if (!found.is_discarded()) return found;
      return call.positional.size() > 1 ? call.positional[1] : Value(nullptr);
    }
    call.Allow(0);
    if (name == "items") return Items(object);
    if (name == "keys") return Value(Elements(object, call));
    if (name == "values") return Value(object.get<std::vector<Value>>());
  } else if (object.is_string()) {
    const auto& text = object.get_ref<const std::string&>();
    if (name == "strip" || name == "lstrip" || name == "rstrip") {
      return Stripped(text, call, name != "rstrip", name != "lstrip");
    }
    if (name == "split") {
      call.Allow(2, {"sep", "maxsplit"});
      return Split(text, call);
    }
    if (name == "startswith" || name == "endswith") {
      call.Allow(1);
      if (call.positional.empty()) call.Refuse(name + " needs an argument");
      const std::string& part = Text(call.positional[0], call);
      return name == "startswith" ? text.starts_with(part) : text.ends_with(part);
    }
    if (name == "replace") {
      call.Allow(2);
      if (call.positional.size() != 2) call.Refuse("replace needs two arguments");
      return Replaced(text, Text(call.positional[0], call), Text(call.positional[1], call), call);
    }
    if (name == "join") {
      call.Allow(1);
      if (call.positional.empty()) call.Refuse("join needs an argument");
      const Call join{call.where, call.line, "join", {object}, {}};
      return Joined(call.positional[0], join);
    }
    call.Allow(0);
    if (name == "upper" || name == "lower" || name == "capitalize" || name == "title") {
      return ChangeCase(text, call, false);
    }
  }
  call.Refuse(fmt::format("a method of {} that is not supported", TypeName(object)), "", name);
}

bool IsFunction(std::string_view name) {
  return name == "raise_exception" || name == "namespace" || name == "range" || name == "strftime_now";
}

Value CallFunction(const Call& call) {
  if (call.name == "raise_exception") {
    const std::string why = call.positional.empty() ? "no reason given" : Show(call.positional[0], call);
    throw UserError(call.where, "the chat template refuses these messages: " + OneLine(why));
  }
  if (call.name == "namespace") {
    if (!call.positional.empty()) call.Refuse("namespace is supported with named arguments only");
    Value object = Value::object();
    for (const auto& [key, value] : call.named) object[key] = value;
    return object;
  }
  if (call.name == "range") return Range(call);
  if (call.name == "strftime_now") return Now(call);
  call.Refuse("a function that is not supported", "raise_exception, namespace, range or strftime_now", call.name);
}

}  // namespace taipan::jinja
