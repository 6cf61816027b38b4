// Filters of lists and dicts.

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

using Values = std::vector<Value>;

class Generator : public Object {
 public:
  Generator(std::function<Values(Context&)> make, int depth) : make_(std::move(make)), depth_(depth) {}
  std::string_view type_name() const override { return "generator"; }
  int depth() const override { return depth_; }
  std::optional<Values> Iterate(Context& context) override {
    const Context::Deeper deeper(context);
    const auto make = std::exchange(make_, nullptr);
    return make ? make(context) : Values();
  }

 private:
  std::function<Values(Context&)> make_;
  int depth_;
};

// ---- by attribute

const Value* NotNone(const Value* value) { return value != nullptr && value->is_none() ? nullptr : value; }

Value IgnoringCase(Value value, bool case_sensitive) {
  return case_sensitive || !value.is_string() ? value : Value(Lower(value.text()));
}

// What sorting looks at: the parts of "a,b.c", or the value itself.
Values SortKeys(const Value& item, const Value* attribute, bool case_sensitive, Context& context) {
  if (attribute == nullptr || !attribute->is_string()) {
    const Value key = attribute == nullptr ? item : AttributePath(item, *attribute, nullptr, context);
    return {IgnoringCase(key, case_sensitive)};
  }
  Values keys;
  std::string_view rest = attribute->text();
  while (true) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const Value key = AttributePath(item, Value(rest.substr(0, comma)), nullptr, context);
    keys.push_back(IgnoringCase(key, case_sensitive));
    if (comma == rest.size()) return keys;
    rest.remove_prefix(comma + 1);
  }
}

bool KeysLess(const Values& a, const Values& b, Context& context) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!Equal(a[i], b[i], context)) return Less(a[i], b[i], context);
  }
  return false;
}

// The order of the items by their keys; equal ones keep theirs. A key alone is asked for its order even where it is
// equal, which undefined ones refuse; several are not.
std::vector<size_t> Sorted(const std::vector<Values>& keys, bool reverse, bool alone, Context& context) {
  const auto less = [&](const Values& a, const Values& b) {
    return alone ? Less(a[0], b[0], context) : KeysLess(a, b, context);
  };
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    context.Spend(16);
    return reverse ? less(keys[b], keys[a]) : less(keys[a], keys[b]);
  });
  return order;
}

Value Sort(const Value& input, Call& call) {
  const auto a = call.Bind({"reverse", "case_sensitive", "attribute"});
  const Values items = Elements(input, call.context);
  std::vector<Values> keys;
  for (const Value& item : items) keys.push_back(SortKeys(item, NotNone(a[2]), call.Truth(a[1]), call.context));
  Values sorted;
  for (const size_t i : Sorted(keys, call.Truth(a[0]), false, call.context)) sorted.push_back(items[i]);
  return List(std::move(sorted), call.context);
}

Value DictSort(const Value& input, Call& call) {
  const auto a = call.Bind({"case_sensitive", "by", "reverse"});
  const std::string by = call.Text(a[1], "key");
  if (by != "key" && by != "value") call.Refuse("sorts by key or value", "key or value", by);
  if (!input.is_dict()) call.Refuse("takes a dict", "", std::string(TypeName(input)));
  const auto& entries = input.dict().entries;
  std::vector<Values> keys;
  for (const auto& [key, value] : entries) keys.push_back({IgnoringCase(by == "key" ? key : value, call.Truth(a[0]))});
  Values sorted;
  for (const size_t i : Sorted(keys, call.Truth(a[2]), true, call.context)) {
    sorted.push_back(Tuple({entries[i].first, entries[i].second}, call.context));
  }
  return List(std::move(sorted), call.context);
}

Value GroupBy(const Value& input, Call& call) {
  const auto a = call.Bind({"attribute", "default", "case_sensitive"}, 1);
  Context& context = call.context;
  const bool case_sensitive = call.Truth(a[2]);
  const Values items = Elements(input, context);
  const auto key_of = [&](const Value& item) { return AttributePath(item, *a[0], NotNone(a[1]), context); };
  std::vector<Values> keys;
  for (const Value& item : items) keys.push_back({IgnoringCase(key_of(item), case_sensitive)});
  const std::vector<size_t> order = Sorted(keys, false, true, context);
  Values groups;
  for (size_t i = 0; i < order.size();) {
    Values group;
    const size_t first = order[i];
    for (; i < order.size() && Equal(keys[order[i]][0], keys[first][0], context); ++i) group.push_back(items[order[i]]);
    if (group.empty()) group.push_back(items[order[i++]]);  // NaN equals nothing
    groups.push_back(List({key_of(items[first]), List(group, context)}, context, Sequence::Kind::kGroup));
  }
  return List(std::move(groups), context);
}

Value Unique(const Value& input, Call& call) {
  const auto a = call.Bind({"case_sensitive", "attribute"});
  const bool case_sensitive = call.Truth(a[0]);
  const Value attribute = a[1] != nullptr ? *a[1] : Value();
  return MakeGenerator(
      [=](Context& context) {
        Values out;
        std::unordered_set<std::string> seen;
        for (const Value& item : Elements(input, context)) {
          const Value key = attribute.is_none() ? item : AttributePath(item, attribute, nullptr, context);
          if (seen.insert(HashKey(IgnoringCase(key, case_sensitive), context)).second) out.push_back(item);
        }
        return out;
      },
      input);
}

Value MinOrMax(const Value& input, Call& call) {
  const auto a = call.Bind({"case_sensitive", "attribute"});
  const Values items = Elements(input, call.context);
  if (items.empty()) return Value::MakeUndefined("No aggregated item, sequence was empty");
  size_t best = 0;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    const Value* attribute = NotNone(a[1]);
    Value key = attribute == nullptr ? items[i] : AttributePath(items[i], *attribute, nullptr, call.context);
    key = IgnoringCase(std::move(key), call.Truth(a[0]));
    const bool better =
        i == 0 || (call.name == "min" ? Less(key, best_key, call.context) : Less(best_key, key, call.context));
    if (!better) continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

Value Sum(const Value& input, Call& call) {
  const auto a = call.Bind({"attribute", "start"});
  Value sum = a[1] != nullptr ? *a[1] : Value(0);
  if (sum.is_string()) call.Refuse("strings are joined, not added up");
  for (const Value& item : Elements(input, call.context)) {
    const Value* attribute = NotNone(a[0]);
    sum = Arithmetic("+", sum, attribute == nullptr ? item : AttributePath(item, *attribute, nullptr, call.context),
                     call.context);
  }
  return sum;
}

Value Join(const Value& input, Call& call) {
  const auto a = call.Bind({"d", "attribute"});
  Context& context = call.context;
  const std::string by = a[0] != nullptr ? Str(*a[0], context) : "";
  std::string out;
  bool first = true;
  for (const Value& item : Elements(input, context)) {
    const Value* attribute = NotNone(a[1]);
    const std::string part =
        Str(attribute == nullptr ? item : AttributePath(item, *attribute, nullptr, context), context);
    if (!std::exchange(first, false)) out += by;
    out += part;
    context.Reserve(part.size() + by.size());
    if (out.size() > (size_t{1} << 26)) context.Reserve(out.size());
  }
  return Value(std::move(out));
}

// ---- one by one

Value Map(const Value& input, Call& call) {
  Values positional = call.positional;
  Named named = call.named;
  if (positional.empty() && !named.empty()) {
    const auto a = call.Bind({"attribute", "default"}, 1);
    const Value attribute = *a[0], otherwise = a[1] != nullptr ? *a[1] : Value();
    return MakeGenerator(
        [=](Context& context) {
          Values out;
          if (!Truth(input)) return out;
          for (const Value& item : Elements(input, context)) {
            out.push_back(AttributePath(item, attribute, NotNone(&otherwise), context));
          }
          return out;
        },
        input);
  }
  const std::string filter = positional.empty() ? "" : call.Text(&positional[0]);
  if (positional.empty()) call.Refuse("needs the name of a filter or attribute=...");
  positional.erase(positional.begin());
  return MakeGenerator(
      [=](Context& context) {
        Values out;
        if (!Truth(input)) return out;
        for (const Value& item : Elements(input, context)) {
          Call each{context, filter, positional, named};
          context.Spend(64);
          out.push_back(ApplyFilter(item, each));
        }
        return out;
      },
      input);
}

// select, reject, selectattr, rejectattr.
Value Select(const Value& input, Call& call) {
  const bool by_attribute = call.name.ends_with("attr"), wanted = call.name.starts_with("select");
  Values rest = call.positional;
  Value attribute;
  if (by_attribute) {
    if (rest.empty()) call.Refuse("needs the name of an attribute");
    attribute = rest[0];
    rest.erase(rest.begin());
  }
  const std::string test = rest.empty() ? "" : call.Text(&rest[0]);
  if (!rest.empty()) rest.erase(rest.begin());
  const bool plain = call.positional.size() == (by_attribute ? 1 : 0);
  const Named named = call.named;
  return MakeGenerator(
      [=](Context& context) {
        Values out;
        if (!Truth(input)) return out;
        for (const Value& item : Elements(input, context)) {
          const Value looked_at = by_attribute ? AttributePath(item, attribute, nullptr, context) : item;
          Call each{context, test, rest, named};
          context.Spend(64);
          if ((plain ? Truth(looked_at) : ApplyTest(looked_at, each)) == wanted) out.push_back(item);
        }
        return out;
      },
      input);
}

// ---- parts

Value First(const Value& input, Call& call) {
  call.Bind({});
  const Values items = Elements(input, call.context);
  return items.empty() ? Value::MakeUndefined("No first item, sequence was empty") : items.front();
}

Value Last(const Value& input, Call& call) {
  call.Bind({});
  if (input.is_object()) call.Refuse(fmt::format("'{}' object is not reversible", TypeName(input)));
  const Values items = Elements(input, call.context);
  return items.empty() ? Value::MakeUndefined("No last item, sequence was empty") : items.back();
}

Value Reverse(const Value& input, Call& call) {
  call.Bind({});
  if (input.is_string()) return Slice(input, Value(), Value(), Value(-1), call.context);
  Values items = Elements(input, call.context);
  std::reverse(items.begin(), items.end());
  return input.is_object() ? List(std::move(items), call.context)
                           : MakeGenerator([=](Context&) { return items; }, input);
}

Value Batch(const Value& input, Call& call) {
  const auto a = call.Bind({"linecount", "fill_with"}, 1);
  const int64_t count = call.Integer(a[0]);
  const Value fill = a[1] != nullptr ? *a[1] : Value();
  return MakeGenerator(
      [=](Context& context) {
        Values rows, row;
        for (const Value& item : Elements(input, context)) {
          if (static_cast<int64_t>(row.size()) == count) rows.push_back(List(std::exchange(row, {}), context));
          row.push_back(item);
        }
        if (row.empty()) return rows;
        while (!fill.is_none() && static_cast<int64_t>(row.size()) < count) {
          row.push_back(fill);
          context.Spend(64);
        }
        rows.push_back(List(std::move(row), context));
        return rows;
      },
      input);
}

Value InSlices(const Value& input, Call& call) {
  const auto a = call.Bind({"slices", "fill_with"}, 1);
  const int64_t slices = call.Integer(a[0]);
  const Value fill = a[1] != nullptr ? *a[1] : Value();
  return MakeGenerator(
      [=](Context& context) {
        const Values items = Elements(input, context);
        if (slices == 0) context.Refuse("division by zero");
        const auto size = static_cast<int64_t>(items.size());
        Values out;
        int64_t begin = 0;
        for (int64_t i = 0; i < slices; ++i) {
          const int64_t end = begin + size / slices + (i < size % slices ? 1 : 0);
          Values part(items.begin() + begin, items.begin() + end);
          if (!fill.is_none() && i >= size % slices) part.push_back(fill);
          out.push_back(List(std::move(part), context));
          context.Spend(64);
          begin = end;
        }
        return out;
      },
      input);
}

Value Items(const Value& input, Call& call) {
  call.Bind({});
  return MakeGenerator(
      [input](Context& context) {
        Values out;
        if (input.is_undefined()) return out;
        if (!input.is_dict()) context.Refuse("items: only of a mapping", "", std::string(TypeName(input)));
        for (const auto& [key, value] : input.dict().entries) out.push_back(Tuple({key, value}, context));
        return out;
      },
      input);
}

Value Default(const Value& input, Call& call) {
  const auto a = call.Bind({"default_value", "boolean"});
  const bool keep = !input.is_undefined() && !(call.Truth(a[1]) && !Truth(input));
  return keep ? input : a[0] != nullptr ? *a[0] : Value("");
}

Value AttributeOnly(const Value& input, Call& call) {
  const auto a = call.Bind({"name"}, 1);
  const std::string name = Str(*a[0], call.context);
  if (!input.is_dict()) return Attribute(input, name, call.context);
  DictMaker none(call.context);  // a dict's methods, not its keys
  const Value found = Attribute(none.Done(), name, call.context);
  return found.is_undefined() ? found : Attribute(input, name, call.context);
}

Value LengthOf(const Value& input, Call& call) {
  call.Bind({});
  return Value(Length(input, call.context));
}

Value ListOf(const Value& input, Call& call) {
  call.Bind({});
  return List(Elements(input, call.context), call.context);
}

}  // namespace

Value MakeGenerator(std::function<Values(Context&)> make, const Value& source) {
  return Value(ObjectPtr(std::make_shared<Generator>(std::move(make), 1 + source.depth())));
}

Value AttributePath(Value object, const Value& path, const Value* otherwise, Context& context) {
  const auto step = [&](const Value& index) {
    object = Item(object, index, context);
    if (otherwise != nullptr && object.is_undefined()) object = *otherwise;
  };
  if (!path.is_string()) {
    step(path);
    return object;
  }
  std::string_view rest = path.text();
  while (true) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string part(rest.substr(0, dot));
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    const auto number = digits ? ParseInteger(part, 10).value : std::nullopt;
    step(number ? Value(*number) : Value(part));
    if (dot == rest.size()) return object;
    rest.remove_prefix(dot + 1);
  }
}

const FilterTable& ListFilters() {
  static const FilterTable kTable = {
      {"sort", Sort},         {"dictsort", DictSort},  {"groupby", GroupBy}, {"unique", Unique},
      {"min", MinOrMax},      {"max", MinOrMax},       {"sum", Sum},         {"join", Join},
      {"map", Map},           {"select", Select},      {"reject", Select},   {"selectattr", Select},
      {"rejectattr", Select}, {"first", First},        {"last", Last},       {"reverse", Reverse},
      {"batch", Batch},       {"slice", InSlices},     {"items", Items},     {"default", Default},
      {"d", Default},         {"attr", AttributeOnly}, {"length", LengthOf}, {"count", LengthOf},
      {"list", ListOf},
  };
  return kTable;
}

}  // namespace taipan::jinja
