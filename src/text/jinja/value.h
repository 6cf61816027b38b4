#pragma once
// Values of templates: Python's, as far as a template can meet them. A copy shares what it points to; strings, lists
// and dicts never change (the sandbox of transformers does not let templates change them either).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace taipan::jinja {

class Value;
class Context;
struct Call;

struct Text {
  std::string text;
  bool safe = false;  // markupsafe's Markup: what is added to it is escaped
};

struct Undefined {
  std::string why;  // "'x' is undefined"
};

// What has a length and an order.
struct Sequence {
  enum class Kind { kList, kTuple, kGroup, kRange, kKeys, kValues, kItems };
  Kind kind = Kind::kList;
  std::vector<Value> items;
  int64_t start = 0, stop = 0, step = 1;  // of a range
  int depth = 1;                          // of nesting
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_map<std::string, size_t> index;  // by HashKey
  int depth = 1;

  const Value* Find(std::string_view hash_key) const;
  // Replaces the value of an equal key.
  void Set(std::string hash_key, Value key, Value value);
};

// Everything else: functions, methods, macros, namespaces, loops, generators.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;  // as Python names it
  virtual std::optional<std::string> Repr(Context&) const { return std::nullopt; }
  virtual std::optional<Value> Attribute(std::string_view, Context&);
  virtual bool callable() const { return false; }
  virtual Value Invoke(Call& call);
  virtual std::optional<std::vector<Value>> Iterate(Context&) { return std::nullopt; }
  virtual int depth() const { return 1; }
};

using TextPtr = std::shared_ptr<const Text>;
using UndefinedPtr = std::shared_ptr<const Undefined>;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  Value() = default;  // None
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(int i) : data_(int64_t{i}) {}
  Value(double d) : data_(d) {}
  Value(std::string text, bool safe = false) : data_(std::make_shared<const Text>(Text{std::move(text), safe})) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(SequencePtr list) : data_(std::move(list)) {}
  Value(DictPtr dict) : data_(std::move(dict)) {}
  Value(ObjectPtr object) : data_(std::move(object)) {}
  static Value MakeUndefined(std::string why) {
    Value v;
    v.data_ = std::make_shared<const Undefined>(Undefined{std::move(why)});
    return v;
  }

  bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_undefined() const { return std::holds_alternative<UndefinedPtr>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return is_bool() || std::holds_alternative<int64_t>(data_); }  // a bool is one in Python
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_integer() || is_float(); }
  bool is_string() const { return std::holds_alternative<TextPtr>(data_); }
  bool is_sequence() const { return std::holds_alternative<SequencePtr>(data_); }
  bool is_sequence(Sequence::Kind kind) const { return is_sequence() && sequence().kind == kind; }
  bool is_list() const { return is_sequence(Sequence::Kind::kList); }
  bool is_tuple() const { return is_sequence(Sequence::Kind::kTuple) || is_sequence(Sequence::Kind::kGroup); }
  bool is_dict() const { return std::holds_alternative<DictPtr>(data_); }
  bool is_object() const { return std::holds_alternative<ObjectPtr>(data_); }

  // Each only of its own type.
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  const std::string& text() const { return std::get<TextPtr>(data_)->text; }
  bool safe() const { return is_string() && std::get<TextPtr>(data_)->safe; }
  const std::string& why() const { return std::get<UndefinedPtr>(data_)->why; }
  const Sequence& sequence() const { return *std::get<SequencePtr>(data_); }
  const std::vector<Value>& items() const { return sequence().items; }
  const Dict& dict() const { return *std::get<DictPtr>(data_); }
  Object& object() const { return *std::get<ObjectPtr>(data_); }
  template <class T>
  T* As() const {
    return is_object() ? dynamic_cast<T*>(std::get<ObjectPtr>(data_).get()) : nullptr;
  }
  // Python's `is`.
  bool Same(const Value& other) const { return data_ == other.data_; }
  int depth() const;  // of nesting; 0 for what holds nothing

 private:
  std::variant<std::monostate, bool, int64_t, double, TextPtr, UndefinedPtr, SequencePtr, DictPtr, ObjectPtr> data_;
};

// Where a template runs: for errors, and for the limits on what it may use.
class Context {
 public:
  Context(std::string where) : where_(std::move(where)) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();
  int line = 0;  // of the template, under way

  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected = "",
                           const std::string& found = "") const;
  // For what the template itself refuses.
  [[noreturn]] void Raise(const std::string& message) const;
  [[noreturn]] void RefuseUndefined(const Value& undefined) const;
  // So that no template runs or grows without end.
  void Spend(size_t work);
  // Refuses a text of this size before it is made.
  void Reserve(size_t bytes);

  // Runs when the rendering is over: what points to itself is cut there.
  void AtEnd(std::function<void()> f) { at_end_.push_back(std::move(f)); }

  class Deeper {  // while it lives, the nesting is one deeper
   public:
    explicit Deeper(Context& context);
    ~Deeper() { --context_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Context& context_;
  };

 private:
  std::string where_;
  size_t work_ = 0;
  int depth_ = 0;
  std::vector<std::function<void()>> at_end_;
};

using Named = std::vector<std::pair<std::string, Value>>;

// Arguments after evaluation, of the function `name`.
struct Call {
  Context& context;
  std::string name;
  std::vector<Value> positional = {};
  Named named = {};

  // The arguments in the order of `names`, null where one is left out. Refuses others, and fewer than `required`.
  std::vector<const Value*> Bind(std::initializer_list<std::string_view> names, size_t required = 0) const;
  [[noreturn]] void Refuse(const std::string& problem, const std::string& expected = "",
                           const std::string& found = "") const;
  // Arguments of a type; `otherwise` where null.
  int64_t Integer(const Value* value, int64_t otherwise = 0) const;
  const std::string& Text(const Value* value, const std::string& otherwise = "") const;
  bool Truth(const Value* value, bool otherwise = false) const;
};

// ---- making

Value List(std::vector<Value> items, Context& context, Sequence::Kind kind = Sequence::Kind::kList);
inline Value Tuple(std::vector<Value> items, Context& context) {
  return List(std::move(items), context, Sequence::Kind::kTuple);
}
class DictMaker {
 public:
  explicit DictMaker(Context& context) : context_(context) {}
  void Set(Value key, Value value);
  void Add(const Value& mapping);
  Value Done();

 private:
  Context& context_;
  std::shared_ptr<Dict> dict_ = std::make_shared<Dict>();
};
// Lists deeper than this are refused; so are namespaces.
constexpr int kMaxNesting = 200;

// ---- looking

std::string_view TypeName(const Value& value);  // as Python names it
bool Truth(const Value& value);
bool Equal(const Value& a, const Value& b, Context& context);
// a < b as Python has it, TypeErrors too.
bool Less(const Value& a, const Value& b, Context& context);
std::string HashKey(const Value& value, Context& context);
int64_t Length(const Value& value, Context& context);
bool IsIterable(const Value& value);
// The elements that a loop visits; a generator has none afterwards.
std::vector<Value> Elements(const Value& value, Context& context);
bool Contains(const Value& whole, const Value& part, Context& context);
// object.name and object[index] as Jinja's sandbox looks them up; undefined where there is none.
Value Attribute(const Value& object, const std::string& name, Context& context);
Value Item(const Value& object, const Value& index, Context& context);
Value Slice(const Value& object, const Value& start, const Value& stop, const Value& step, Context& context);

// ---- showing

std::string Str(const Value& value, Context& context);   // Python's str()
std::string Repr(const Value& value, Context& context);  // Python's repr()
std::string ReprFloat(double value);

// ---- computing

// op: + - * / // % **
Value Arithmetic(std::string_view op, const Value& a, const Value& b, Context& context);
Value Negative(const Value& value, Context& context);
// op: == != < <= > >= in, not in
bool Compare(std::string_view op, const Value& a, const Value& b, Context& context);
std::string Escaped(std::string_view text);  // & < > ' " for HTML

// JSON text to a value; keys stay in their order. UserError (where: `where`).
Value ParseValue(std::string_view json, const std::string& where);

}  // namespace taipan::jinja
