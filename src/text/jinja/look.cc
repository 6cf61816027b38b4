// What values are and hold: truth, equality, order, parts.

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"

namespace taipan::jinja {
namespace {

using Kind = Sequence::Kind;

// Three-way, exact also between whole numbers and floats; nothing for NaN.
std::optional<int> CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return (a.integer() > b.integer()) - (a.integer() < b.integer());
  static_assert(std::numeric_limits<long double>::digits >= 64, "holds every int64 and every double");
  const auto exact = [](const Value& v) {
    return v.is_float() ? static_cast<long double>(v.number()) : static_cast<long double>(v.integer());
  };
  const long double x = exact(a), y = exact(b);
  if (std::isnan(x) || std::isnan(y)) return std::nullopt;
  return (x > y) - (x < y);
}

bool SameKind(const Value& a, const Value& b) {
  return (a.is_tuple() && b.is_tuple()) ||
         (a.is_sequence() && b.is_sequence() && a.sequence().kind == b.sequence().kind);
}

bool SameItems(const std::vector<Value>& a, const std::vector<Value>& b, Context& context) {
  if (a.size() != b.size()) return false;
  context.Spend(16 * a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (!Equal(a[i], b[i], context)) return false;
  }
  return true;
}

bool SameDicts(const Dict& a, const Dict& b, Context& context) {
  if (a.entries.size() != b.entries.size()) return false;
  context.Spend(16 * a.entries.size());
  for (const auto& [hash_key, i] : a.index) {
    const Value* other = b.Find(hash_key);
    if (other == nullptr || !Equal(a.entries[i].second, *other, context)) return false;
  }
  return true;
}

std::string NumberKey(const Value& value) {
  if (value.is_float()) {
    const double d = value.number();
    if (d != std::floor(d) || std::abs(d) >= 9e18) return fmt::format("f{}", ReprFloat(d));
    return fmt::format("n{}", static_cast<int64_t>(d));
  }
  return fmt::format("n{}", value.integer());
}

[[noreturn]] void NotIterable(const Value& value, Context& context) {
  context.Refuse(fmt::format("'{}' object is not iterable", TypeName(value)));
}

// Whether Python knows the attribute, and why the sandbox keeps it from templates.
std::optional<Value> TypeAttribute(const Value& object, const std::string& name, Context& context) {
  if (object.is_object()) return object.object().Attribute(name, context);
  if (object.is_sequence(Kind::kGroup) && (name == "grouper" || name == "list")) {
    return object.items()[name == "grouper" ? 0 : 1];
  }
  if (object.is_sequence(Kind::kRange) && (name == "start" || name == "stop" || name == "step")) {
    const Sequence& range = object.sequence();
    return Value(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
  }
  if (object.is_integer() && (name == "real" || name == "numerator")) return Value(object.integer());
  if (object.is_integer() && (name == "imag" || name == "denominator")) return Value(name == "imag" ? 0 : 1);
  if (object.is_float() && (name == "real" || name == "imag")) return Value(name == "real" ? object.number() : 0.0);
  if (!HasMethod(object, name)) return std::nullopt;
  if (ChangesObject(object, name)) {
    return Value::MakeUndefined(
        fmt::format("access to attribute '{}' of '{}' object is unsafe", name, TypeName(object)));
  }
  return MakeMethod(object, name);
}

// object[index]; nothing where Python raises a LookupError or TypeError.
std::optional<Value> Subscripted(const Value& object, const Value& index, Context& context) {
  if (object.is_dict()) {
    const bool hashable = !index.is_dict() && !index.is_list();
    const Value* found = hashable ? object.dict().Find(HashKey(index, context)) : nullptr;
    return found != nullptr ? std::optional<Value>(*found) : std::nullopt;
  }
  if (!index.is_integer()) return std::nullopt;
  if (object.is_string()) {
    context.Spend(object.text().size());
    const std::vector<size_t> starts = CharacterStarts(object.text());
    const auto size = static_cast<int64_t>(starts.size()) - 1;
    const int64_t i = index.integer() + (index.integer() < 0 ? size : 0);
    if (i < 0 || i >= size) return std::nullopt;
    const size_t begin = starts[static_cast<size_t>(i)];
    return Value(object.text().substr(begin, starts[static_cast<size_t>(i) + 1] - begin), object.safe());
  }
  if (!object.is_sequence() || object.sequence().kind >= Kind::kKeys) return std::nullopt;
  const auto size = static_cast<int64_t>(object.items().size());
  const int64_t i = index.integer() + (index.integer() < 0 ? size : 0);
  if (i < 0 || i >= size) return std::nullopt;
  return object.items()[static_cast<size_t>(i)];
}

Value Missing(const Value& object, const Value& name, Context& context) {
  if (object.is_none()) return Value::MakeUndefined(fmt::format("'None' has no attribute {}", Repr(name, context)));
  if (name.is_string()) {
    return Value::MakeUndefined(fmt::format("'{} object' has no attribute {}", TypeName(object), Repr(name, context)));
  }
  return Value::MakeUndefined(fmt::format("'{} object' has no element {}", TypeName(object),
                                          name.is_object() ? "of this kind" : Repr(name, context)));
}

}  // namespace

std::string_view TypeName(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_bool()) return "bool";
  if (value.is_integer()) return "int";
  if (value.is_float()) return "float";
  if (value.is_string()) return value.safe() ? "Markup" : "str";
  if (value.is_dict()) return "dict";
  if (value.is_object()) return value.object().type_name();
  static constexpr std::string_view kNames[] = {"list",      "tuple",       "_GroupTuple", "range",
                                                "dict_keys", "dict_values", "dict_items"};
  return kNames[static_cast<size_t>(value.sequence().kind)];
}

bool Truth(const Value& value) {
  if (value.is_integer()) return value.integer() != 0;
  if (value.is_float()) return value.number() != 0;
  if (value.is_string()) return !value.text().empty();
  if (value.is_sequence()) return !value.items().empty();
  if (value.is_dict()) return !value.dict().entries.empty();
  return value.is_object();
}

bool Equal(const Value& a, const Value& b, Context& context) {
  const Context::Deeper deeper(context);
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
  if (a.is_string() && b.is_string()) {
    context.Spend(std::min(a.text().size(), b.text().size()));
    return a.text() == b.text();
  }
  if (a.Same(b)) return true;
  if (a.is_dict() && b.is_dict()) return SameDicts(a.dict(), b.dict(), context);
  if (SameKind(a, b) && !a.is_sequence(Kind::kValues)) return SameItems(a.items(), b.items(), context);
  return false;
}

bool Less(const Value& a, const Value& b, Context& context) {
  const Context::Deeper deeper(context);
  if (a.is_undefined()) context.RefuseUndefined(a);
  if (b.is_undefined()) context.RefuseUndefined(b);
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == -1;
  if (a.is_string() && b.is_string()) {
    context.Spend(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // UTF-8 orders as code points do
  }
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    const auto &x = a.items(), &y = b.items();
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      context.Spend(16);
      if (!Equal(x[i], y[i], context)) return Less(x[i], y[i], context);
    }
    return x.size() < y.size();
  }
  context.Refuse(
      fmt::format("these types have no order ('<' not supported between '{}' and '{}')", TypeName(a), TypeName(b)));
}

std::string HashKey(const Value& value, Context& context) {
  if (value.is_string()) return "s" + value.text();
  if (value.is_number()) return NumberKey(value);
  if (value.is_none()) return "N";
  if (value.is_undefined()) return "U";
  if (value.is_object()) return fmt::format("o{}", static_cast<const void*>(&value.object()));
  if (!value.is_tuple() && !value.is_sequence(Kind::kRange)) {
    context.Refuse(fmt::format("a {} cannot be a key (unhashable type)", TypeName(value)));
  }
  std::string key = value.is_tuple() ? "t" : "r";
  for (const Value& item : value.items()) {
    const std::string part = HashKey(item, context);
    key += std::to_string(part.size()) + ":" + part;
    context.Reserve(key.size());
  }
  return key;
}

int64_t Length(const Value& value, Context& context) {
  if (value.is_undefined()) return 0;
  if (value.is_sequence()) return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().entries.size());
  if (!value.is_string()) context.Refuse(fmt::format("object of type '{}' has no length", TypeName(value)));
  context.Spend(value.text().size());
  return static_cast<int64_t>(CountCharacters(value.text()));
}

bool IsIterable(const Value& value) {
  if (value.is_object())
    return value.object().type_name() == "generator" || value.object().type_name() == "LoopContext";
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict();
}

std::vector<Value> Elements(const Value& value, Context& context) {
  if (value.is_undefined()) return {};
  std::vector<Value> elements;
  if (value.is_sequence()) {
    context.Spend(16 * value.items().size());
    return value.items();
  }
  if (value.is_dict()) {
    context.Spend(16 * value.dict().entries.size());
    for (const auto& [key, unused] : value.dict().entries) elements.push_back(key);
  } else if (value.is_string()) {
    context.Reserve(64 * value.text().size());
    for (const std::string_view character : Characters(value.text())) elements.emplace_back(std::string(character));
  } else if (value.is_object()) {
    std::optional<std::vector<Value>> all = value.object().Iterate(context);
    if (!all) NotIterable(value, context);
    return *std::move(all);
  } else {
    NotIterable(value, context);
  }
  return elements;
}

bool Contains(const Value& whole, const Value& part, Context& context) {
  if (whole.is_string()) {
    if (!part.is_string()) {
      context.Refuse(fmt::format("'in <string>' requires a string on its left, not {}", TypeName(part)));
    }
    context.Spend(whole.text().size());
    return whole.text().find(part.text()) != std::string::npos;
  }
  if (whole.is_dict()) return whole.dict().Find(HashKey(part, context)) != nullptr;
  if (!IsIterable(whole)) context.Refuse(fmt::format("argument of type '{}' is not iterable", TypeName(whole)));
  const std::vector<Value> elements = Elements(whole, context);
  return std::any_of(elements.begin(), elements.end(), [&](const Value& e) { return Equal(e, part, context); });
}

Value Attribute(const Value& object, const std::string& name, Context& context) {
  if (object.is_undefined()) context.RefuseUndefined(object);
  if (std::optional<Value> found = TypeAttribute(object, name, context)) return *std::move(found);
  if (std::optional<Value> found = Subscripted(object, Value(name), context)) return *std::move(found);
  return Missing(object, Value(name), context);
}

Value Item(const Value& object, const Value& index, Context& context) {
  if (object.is_undefined()) context.RefuseUndefined(object);
  if (std::optional<Value> found = Subscripted(object, index, context)) return *std::move(found);
  if (index.is_string()) {
    if (std::optional<Value> found = TypeAttribute(object, index.text(), context)) return *std::move(found);
  }
  return Missing(object, index, context);
}

Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step, Context& context) {
  if (object.is_undefined()) context.RefuseUndefined(object);
  const bool sliceable = object.is_string() || (object.is_sequence() && object.sequence().kind < Kind::kKeys);
  if (!sliceable) context.Refuse("only strings, lists and tuples are sliced", "", std::string(TypeName(object)));
  const std::vector<Value> elements = Elements(object, context);
  const auto size = static_cast<int64_t>(elements.size());
  const auto integer = [&](const Value& value) {
    if (!value.is_integer()) context.Refuse("a slice takes whole numbers", "", std::string(TypeName(value)));
    return std::clamp<int64_t>(value.integer(), -(int64_t{1} << 40), int64_t{1} << 40);  // keeps sums exact
  };
  const int64_t by = step.is_none() ? 1 : integer(step);
  if (by == 0) context.Refuse("the step of a slice is 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const int64_t i = integer(value);
    return std::clamp(i < 0 ? i + size : i, low, high);
  };
  const int64_t end = bound(stop, by > 0 ? high : low);
  std::vector<Value> items;
  for (int64_t i = bound(start, by > 0 ? low : high); by > 0 ? i < end : i > end; i += by) {
    items.push_back(elements[static_cast<size_t>(i)]);
  }
  if (object.is_string()) {
    std::string text;
    for (const Value& item : items) text += item.text();
    return Value(std::move(text), object.safe());
  }
  const Kind kind = object.is_tuple() ? Kind::kTuple : object.sequence().kind;
  if (kind == Kind::kRange) {
    auto range = std::make_shared<Sequence>(object.sequence());
    const int64_t from = bound(start, by > 0 ? low : high);
    range->start = object.sequence().start + from * object.sequence().step;
    range->stop = object.sequence().start + end * object.sequence().step;
    range->step = object.sequence().step * by;
    range->items = std::move(items);
    return Value(SequencePtr(std::move(range)));
  }
  return List(std::move(items), context, kind);
}

bool Compare(std::string_view op, const Value& a, const Value& b, Context& context) {
  if (op == "==") return Equal(a, b, context);
  if (op == "!=") return !Equal(a, b, context);
  if (op == "in") return Contains(b, a, context);
  if (op == "not in") return !Contains(b, a, context);
  if (op == "<") return Less(a, b, context);
  if (op == ">") return Less(b, a, context);
  const bool swapped = op == ">=";
  const Value &low = swapped ? b : a, &high = swapped ? a : b;
  if (low.is_number() && high.is_number()) return CompareNumbers(low, high).value_or(1) <= 0;  // nothing for NaN
  return !Less(high, low, context);
}

}  // namespace taipan::jinja
