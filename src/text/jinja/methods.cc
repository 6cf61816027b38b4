#include "text/jinja/methods.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace taipan::jinja {
namespace {

using Kind = Sequence::Kind;
using Names = std::set<std::string, std::less<>>;

const Names& MethodsOf(const Value& object) {
  static const Names kNone;
  static const Names kText = {
      "capitalize", "casefold",   "center",   "count",        "encode",       "endswith", "expandtabs", "find",
      "format",     "format_map", "index",    "isalnum",      "isalpha",      "isascii",  "isdecimal",  "isdigit",
      "islower",    "isnumeric",  "isspace",  "isidentifier", "isprintable",  "istitle",  "isupper",    "join",
      "ljust",      "lower",      "lstrip",   "maketrans",    "partition",    "replace",  "rfind",      "rindex",
      "rjust",      "rpartition", "rsplit",   "removeprefix", "removesuffix", "rstrip",   "split",      "splitlines",
      "startswith", "strip",      "swapcase", "title",        "translate",    "upper",    "zfill"};
  static const Names kDict = {"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                              "pop",   "popitem", "setdefault", "update", "values"};
  static const Names kList = {"append", "clear", "copy",   "count",   "extend", "index",
                              "insert", "pop",   "remove", "reverse", "sort"};
  static const Names kTuple = {"count", "index"};
  static const Names kView = {"isdisjoint", "mapping"};
  static const Names kInteger = {"as_integer_ratio", "bit_count", "bit_length", "conjugate", "from_bytes", "to_bytes"};
  static const Names kFloat = {"as_integer_ratio", "conjugate", "fromhex", "hex", "is_integer"};
  if (object.is_string()) return kText;
  if (object.is_dict()) return kDict;
  if (object.is_list()) return kList;
  if (object.is_integer()) return kInteger;
  if (object.is_float()) return kFloat;
  if (!object.is_sequence()) return kNone;
  return object.sequence().kind >= Kind::kKeys ? kView : kTuple;
}

class Method : public Object {
 public:
  Method(Value self, std::string name) : self_(std::move(self)), name_(std::move(name)) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  int depth() const override { return 1 + self_.depth(); }

  Value Invoke(Call& call) override {
    call.name = name_;
    if (self_.is_string()) return CallStringMethod(self_, call);
    if (self_.is_dict()) return OfDict(call);
    if (self_.is_sequence()) return OfList(call);
    if (self_.is_float() && name_ == "is_integer") {
      call.Bind({});
      return Value(self_.number() == static_cast<double>(static_cast<int64_t>(self_.number())));
    }
    Unsupported(call);
  }

 private:
  [[noreturn]] void Unsupported(const Call& call) const {
    call.context.Refuse(fmt::format("a method of {} that is not supported", TypeName(self_)), "", name_);
  }

  Value OfDict(Call& call) {
    const Dict& dict = self_.dict();
    if (name_ == "get") {
      const auto a = call.Bind({"key", "default"}, 1);
      const Value* found = dict.Find(HashKey(*a[0], call.context));
      return found != nullptr ? *found : a[1] != nullptr ? *a[1] : Value();
    }
    if (name_ == "fromkeys") Unsupported(call);
    call.Bind({});
    if (name_ == "copy") return self_;
    std::vector<Value> all;
    for (const auto& [key, value] : dict.entries) {
      all.push_back(name_ == "keys" ? key : name_ == "values" ? value : Tuple({key, value}, call.context));
    }
    return List(std::move(all), call.context,
                name_ == "keys"     ? Kind::kKeys
                : name_ == "values" ? Kind::kValues
                                    : Kind::kItems);
  }

  Value OfList(Call& call) {
    const std::vector<Value>& items = self_.items();
    if (name_ == "copy") return self_;
    if (name_ != "count" && name_ != "index") Unsupported(call);
    const auto a = call.Bind({"value", "start", "stop"}, 1);
    const auto size = static_cast<int64_t>(items.size());
    const auto bound = [&](const Value* value, int64_t otherwise) {
      const int64_t i = call.Integer(value, otherwise);
      return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size);
    };
    int64_t count = 0;
    for (int64_t i = bound(a[1], 0); i < bound(a[2], size); ++i) {
      if (!Equal(items[static_cast<size_t>(i)], *a[0], call.context)) continue;
      if (name_ == "index") return Value(i);
      ++count;
    }
    if (name_ == "index") call.Refuse("the value is not in the list");
    return Value(count);
  }

  const Value self_;
  const std::string name_;
};

}  // namespace

bool HasMethod(const Value& object, const std::string& name) { return MethodsOf(object).count(name) != 0; }

bool ChangesObject(const Value& object, const std::string& name) {
  static const Names kList = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
  static const Names kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  return (object.is_list() && kList.count(name) != 0) || (object.is_dict() && kDict.count(name) != 0);
}

Value MakeMethod(Value object, std::string name) {
  return Value(ObjectPtr(std::make_shared<Method>(std::move(object), std::move(name))));
}

}  // namespace taipan::jinja
