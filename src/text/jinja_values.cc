#include "text/jinja_values.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace taipan::jinja {
namespace {

std::vector<size_t> CharacterStarts(const std::string& text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); i += CharacterLength(text, i)) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

}  // namespace

int64_t Length(const Value& value, const Call& call) {
  if (value.is_discarded()) return 0;
  if (value.is_string()) return static_cast<int64_t>(CharacterStarts(value.get_ref<const std::string&>()).size()) - 1;
  if (!value.is_structured()) call.Refuse("has no length", "", TypeName(value));
  return static_cast<int64_t>(value.size());
}

const std::string& Text(const Value& value, const Call& call) {
  if (!value.is_string()) call.Refuse(call.name + " takes a string", "", TypeName(value));
  return value.get_ref<const std::string&>();
}

int64_t Integer(const Value& value, const Call& call) {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (!value.is_number_integer()) call.Refuse(call.name + " takes a whole number", "", TypeName(value));
  return value.get<int64_t>();
}

bool IsInteger(const Value& value) { return value.is_number_integer() || value.is_boolean(); }

const Value* Call::Argument(size_t i, std::string_view argument) const {
  if (i < positional.size()) return &positional[i];
  for (const auto& [key, value] : named) {
    if (key == argument) return &value;
  }
  return nullptr;
}

void Call::Allow(size_t most, const std::vector<std::string_view>& names) const {
  if (positional.size() > most) {
    Refuse(fmt::format("{}: too many arguments", name), std::to_string(most), std::to_string(positional.size()));
  }
  for (const auto& [key, value] : named) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      Refuse(fmt::format("{}: an argument that is not supported", name), "", key);
    }
  }
}

void Call::Refuse(const std::string& problem, const std::string& expected, const std::string& found) const {
  jinja::Refuse(where, line, problem, expected, found);
}

bool Truth(const Value& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>() != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return value.is_structured() && !value.empty();
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_discarded() || b.is_discarded()) return a.is_discarded() && b.is_discarded();
  if (a.is_boolean() != b.is_boolean() && IsInteger(a) && IsInteger(b)) {  // Python: True == 1
    return (a.is_boolean() ? Value(int64_t{a.get<bool>()}) : a) == (b.is_boolean() ? Value(int64_t{b.get<bool>()}) : b);
  }
  return a == b;
}

std::string TypeName(const Value& value) {
  if (value.is_discarded()) return "an undefined value";
  if (value.is_null()) return "None";
  if (value.is_boolean()) return "a bool";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "a list";
  return value.is_object() ? "a dict" : "a number";
}

std::string Show(const Value& value, const Call& call) {
  if (value.is_discarded()) return "";
  if (value.is_null()) return "None";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (!value.is_number_integer()) call.Refuse("printing this type is not supported", "", TypeName(value));
  return value.dump();
}

bool Contains(const Value& whole, const Value& part, const Call& call) {
  if (whole.is_string()) return whole.get_ref<const std::string&>().find(Text(part, call)) != std::string::npos;
  if (whole.is_object()) return part.is_string() && whole.contains(part.get_ref<const std::string&>());
  if (whole.is_discarded()) return false;
  if (!whole.is_array()) call.Refuse("`in` needs a string, list or dict on its right", "", TypeName(whole));
  return std::any_of(whole.begin(), whole.end(), [&](const Value& element) { return Equal(element, part); });
}

std::vector<Value> Elements(const Value& value, const Call& call) {
  std::vector<Value> elements;
  if (value.is_array()) return value.get<std::vector<Value>>();
  if (value.is_object()) {
    for (const auto& [key, unused] : value.items()) elements.emplace_back(key);
  } else if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const std::vector<size_t> starts = CharacterStarts(text);
    for (size_t i = 0; i + 1 < starts.size(); ++i)
      elements.emplace_back(text.substr(starts[i], starts[i + 1] - starts[i]));
  } else if (!value.is_discarded()) {
    call.Refuse("is not something to loop over", "a list, dict or string", TypeName(value));
  }
  return elements;
}

Value Item(const Value& object, const Value& index) {
  if (object.is_object() && index.is_string()) {
    const auto it = object.find(index.get_ref<const std::string&>());
    return it != object.end() ? *it : Undefined();
  }
  if (!IsInteger(index) || !(object.is_array() || object.is_string())) return Undefined();
  const std::vector<size_t> starts = object.is_string() ? CharacterStarts(object.get_ref<const std::string&>())
                                                        : std::vector<size_t>(object.size() + 1);
  const auto size = static_cast<int64_t>(starts.size()) - 1;
  int64_t i = index.is_boolean() ? index.get<bool>() : index.get<int64_t>();
  if (i < 0) i += size;
  if (i < 0 || i >= size) return Undefined();
  const auto at = static_cast<size_t>(i);
  if (object.is_array()) return object[at];
  return object.get_ref<const std::string&>().substr(starts[at], starts[at + 1] - starts[at]);
}

Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step, const Call& call) {
  if (!object.is_array() && !object.is_string()) call.Refuse("only lists and strings are sliced", "", TypeName(object));
  const std::vector<Value> elements = Elements(object, call);
  const auto size = static_cast<int64_t>(elements.size());
  const int64_t by = step.is_null() ? 1 : Integer(step, call);
  if (by == 0) call.Refuse("the step of a slice is 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is_null()) return otherwise;
    const int64_t i = Integer(value, call);
    return std::clamp(i < 0 ? i + size : i, low, high);
  };
  const int64_t end = bound(stop, by > 0 ? high : low);
  Value list = Value::array();
  std::string text;
  for (int64_t i = bound(start, by > 0 ? low : high); by > 0 ? i < end : i > end; i += by) {
    const Value& element = elements[static_cast<size_t>(i)];
    if (object.is_string()) {
      text += element.get_ref<const std::string&>();
    } else {
      list.push_back(element);
    }
    if (std::abs(by) > size) break;
  }
  return object.is_string() ? Value(text) : list;
}

Value Arithmetic(const std::string& op, Value a, const Value& b, const Call& call) {
  if (op == "+" && a.is_string() && b.is_string()) {
    return a.get_ref<const std::string&>() + b.get_ref<const std::string&>();
  }
  if (op == "+" && a.is_array() && b.is_array()) {
    for (const Value& element : b) a.push_back(element);
    return a;
  }
  if (!IsInteger(a) || !IsInteger(b)) {
    call.Refuse(op + " does not go with these types", "", TypeName(a) + " and " + TypeName(b));
  }
  const int64_t x = Integer(a, call), y = Integer(b, call);
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(x, y, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(x, y, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(x, y, &result);
  } else {
    if (y == 0) call.Refuse("division by zero");
    overflow = y == -1 && x == std::numeric_limits<int64_t>::min();
    const int64_t remainder = overflow ? 0 : x % y;
    const bool rounded_up = remainder != 0 && (remainder < 0) != (y < 0);  // Python rounds down
    if (!overflow) result = op == "%" ? remainder + (rounded_up ? y : 0) : x / y - (rounded_up ? 1 : 0);
  }
  if (overflow) call.Refuse("a number is too large");
  return result;
}

bool Compare(const std::string& op, const Value& a, const Value& b, const Call& call) {
  if (op == "==" || op == "!=") return Equal(a, b) == (op == "==");
  if (op == "in" || op == "not in") return Contains(b, a, call) == (op == "in");
  const bool texts = a.is_string() && b.is_string();
  if (!texts && !(IsInteger(a) && IsInteger(b))) {
    call.Refuse(op + " does not go with these types", "", TypeName(a) + " and " + TypeName(b));
  }
  const auto less = [&](const Value& left, const Value& right) {
    if (texts) return left.get_ref<const std::string&>() < right.get_ref<const std::string&>();
    return Integer(left, call) < Integer(right, call);
  };
  const bool swapped = op == ">" || op == "<=", negated = op == "<=" || op == ">=";
  return (swapped ? less(b, a) : less(a, b)) != negated;
}

}  // namespace taipan::jinja
