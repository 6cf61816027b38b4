// The functions that every template has.

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "text/jinja/filters.h"

namespace taipan::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;  // as Jinja's sandbox

class Function : public Object {
 public:
  explicit Function(Value (*f)(Call&)) : f_(f) {}
  std::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value Invoke(Call& call) override { return f_(call); }

 private:
  Value (*f_)(Call&);
};

// cycler("a", "b"): .next(), .current, .reset().
class Cycler : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, 1 + item.depth());
  }
  std::string_view type_name() const override { return "Cycler"; }
  int depth() const override { return depth_; }
  std::optional<Value> Attribute(std::string_view name, Context&) override;
  Value Next() { return items_[std::exchange(at_, (at_ + 1) % items_.size())]; }
  void Reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  size_t at_ = 0;
  int depth_ = 1;
};

class CyclerMethod : public Object {
 public:
  CyclerMethod(std::shared_ptr<Cycler> cycler, bool next) : cycler_(std::move(cycler)), next_(next) {}
  std::string_view type_name() const override { return "method"; }
  bool callable() const override { return true; }
  Value Invoke(Call& call) override {
    call.Bind({});
    if (next_) return cycler_->Next();
    cycler_->Reset();
    return Value();
  }

 private:
  std::shared_ptr<Cycler> cycler_;
  bool next_;
};

std::optional<Value> Cycler::Attribute(std::string_view name, Context&) {
  if (name == "current") return items_[at_];
  if (name != "next" && name != "reset") return std::nullopt;
  return Value(ObjectPtr(std::make_shared<CyclerMethod>(shared_from_this(), name == "next")));
}

// joiner(", "): nothing when it is first called, its text afterwards.
class Joiner : public Object {
 public:
  explicit Joiner(Value by) : by_(std::move(by)) {}
  std::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value Invoke(Call& call) override {
    call.Bind({});
    return std::exchange(used_, true) ? by_ : Value("");
  }

 private:
  Value by_;
  bool used_ = false;
};

Value Range(Call& call) {
  if (call.positional.empty() || call.positional.size() > 3 || !call.named.empty()) {
    call.Refuse("takes one to three whole numbers");
  }
  std::vector<int64_t> bounds;
  for (const Value& value : call.positional) bounds.push_back(call.Integer(&value));
  auto range = std::make_shared<Sequence>();
  range->kind = Sequence::Kind::kRange;
  range->start = bounds.size() > 1 ? bounds[0] : 0;
  range->stop = bounds.size() > 1 ? bounds[1] : bounds[0];
  range->step = bounds.size() > 2 ? bounds[2] : 1;
  constexpr int64_t kMost = int64_t{1} << 40;  // keeps the sums below exact
  if (range->step == 0) call.Refuse("the step is 0");
  for (const int64_t bound : bounds) {
    if (bound > kMost || bound < -kMost) call.Refuse("runs without end");
  }
  for (int64_t i = range->start; range->step > 0 ? i < range->stop : i > range->stop; i += range->step) {
    if (range->items.size() == kMaxRange) call.Refuse("runs without end", fmt::format("at most {} numbers", kMaxRange));
    range->items.emplace_back(i);
  }
  call.context.Spend(16 * range->items.size());
  return Value(SequencePtr(std::move(range)));
}

Value MakeDict(Call& call) {
  if (call.positional.size() > 1) call.Refuse("takes one mapping and named values");
  DictMaker dict(call.context);
  if (!call.positional.empty()) dict.Add(call.positional[0]);
  for (const auto& [key, value] : call.named) dict.Set(Value(key), value);
  return dict.Done();
}

Value MakeNamespace(Call& call) {
  const Value values = MakeDict(call);
  auto made = std::make_shared<Namespace>();
  for (const auto& [key, value] : values.dict().entries) made->Set(call.Text(&key), value, call.context);
  call.context.Spend(256);
  call.context.AtEnd([weak = std::weak_ptr<Namespace>(made)] {
    if (const auto still_there = weak.lock()) still_there->Clear();
  });
  return Value(ObjectPtr(std::move(made)));
}

Value RaiseException(Call& call) { call.context.Raise(Str(*call.Bind({"message"}, 1)[0], call.context)); }

// The day of the rendering, as transformers' function of this name.
Value Now(Call& call) {
  const std::string& format = call.Text(call.Bind({"format"}, 1)[0]);
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[512];
  const size_t length = std::strftime(text, sizeof text, format.c_str(), &local);
  if (length == 0 && !format.empty()) call.Refuse("a format that gives no text or too much");
  return Value(std::string(text, length));
}

Value MakeCycler(Call& call) {
  if (call.positional.empty()) call.Refuse("needs at least one item");
  if (!call.named.empty()) call.Refuse("takes no named arguments");
  return Value(ObjectPtr(std::make_shared<Cycler>(call.positional)));
}

Value MakeJoiner(Call& call) {
  const auto a = call.Bind({"sep"});
  return Value(ObjectPtr(std::make_shared<Joiner>(a[0] != nullptr ? *a[0] : Value(", "))));
}

Value Lipsum(Call& call) { call.context.Refuse("a function that is not supported", "", call.name); }

Value Of(Value (*f)(Call&)) { return Value(ObjectPtr(std::make_shared<Function>(f))); }

}  // namespace

std::optional<std::string> Namespace::Repr(Context& context) const {
  DictMaker dict(context);
  for (const auto& [name, value] : values_) dict.Set(Value(name), value);
  return fmt::format("<Namespace {}>", jinja::Repr(dict.Done(), context));
}

std::optional<Value> Namespace::Attribute(std::string_view name, Context&) {
  for (const auto& [key, value] : values_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void Namespace::Set(const std::string& name, Value value, Context& context) {
  if (name.starts_with('_')) context.Refuse("a namespace takes no name that begins with an underscore", "", name);
  depth_ = std::max(depth_, 1 + value.depth());
  if (depth_ > kMaxNesting) context.Refuse("lists, dicts or namespaces nested too deeply");
  for (auto& [key, old] : values_) {
    if (key != name) continue;
    old = std::move(value);
    return;
  }
  values_.emplace_back(name, std::move(value));
}

const Value* GlobalFunction(const std::string& name) {
  static const std::map<std::string, Value, std::less<>> kTable = {
      {"range", Of(Range)},
      {"dict", Of(MakeDict)},
      {"namespace", Of(MakeNamespace)},
      {"raise_exception", Of(RaiseException)},
      {"strftime_now", Of(Now)},
      {"cycler", Of(MakeCycler)},
      {"joiner", Of(MakeJoiner)},
      {"lipsum", Of(Lipsum)},
  };
  const auto found = kTable.find(name);
  return found != kTable.end() ? &found->second : nullptr;
}

}  // namespace taipan::jinja
