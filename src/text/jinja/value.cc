#include "text/jinja/value.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/syntax.h"
#include "text/one_line.h"

namespace taipan::jinja {
namespace {

constexpr int kMaxDepth = 1000;                // of expressions, statements and macros under way
constexpr size_t kMaxWork = size_t{1} << 28;   // about 64 for a step, 1 for a byte
constexpr size_t kMaxBytes = size_t{1} << 26;  // of one text

int Deepest(const std::vector<Value>& items) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.depth());
  return deepest;
}

}  // namespace

// ---- context

Context::~Context() {
  for (const auto& f : at_end_) f();
}

void Context::Refuse(const std::string& problem, const std::string& expected, const std::string& found) const {
  jinja::Refuse(where_, line, problem, expected, found);
}

void Context::Raise(const std::string& message) const {
  throw UserError(where_, "the chat template refuses these messages: " + OneLine(message));
}

void Context::RefuseUndefined(const Value& undefined) const { Refuse(undefined.why()); }

void Context::Spend(size_t work) {
  if (work > kMaxWork - work_) Refuse("the template runs or grows without end");
  work_ += work;
}

void Context::Reserve(size_t bytes) {
  if (bytes > kMaxBytes) Refuse("a text or list grows without end", fmt::format("at most {} bytes", kMaxBytes));
  Spend(bytes);
}

Context::Deeper::Deeper(Context& context) : context_(context) {
  if (context_.depth_ >= kMaxDepth) context_.Refuse("nested too deeply");
  ++context_.depth_;
}

// ---- objects

std::optional<Value> Object::Attribute(std::string_view, Context&) { return std::nullopt; }

Value Object::Invoke(Call& call) { call.context.Refuse(fmt::format("'{}' object is not callable", type_name())); }

// ---- arguments

std::vector<const Value*> Call::Bind(std::initializer_list<std::string_view> names, size_t required) const {
  if (positional.size() > names.size()) {
    Refuse("too many arguments", fmt::format("at most {}", names.size()), std::to_string(positional.size()));
  }
  std::vector<const Value*> bound(names.size(), nullptr);
  for (size_t i = 0; i < positional.size(); ++i) bound[i] = &positional[i];
  for (const auto& [key, value] : named) {
    const auto at = static_cast<size_t>(std::find(names.begin(), names.end(), key) - names.begin());
    if (at == names.size()) Refuse("no argument of this name", "", key);
    if (bound[at] != nullptr) Refuse("an argument is given twice", "", key);
    bound[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) Refuse("an argument is missing", std::string(names.begin()[i]));
  }
  return bound;
}

void Call::Refuse(const std::string& problem, const std::string& expected, const std::string& found) const {
  context.Refuse(name + ": " + problem, expected, found);
}

int64_t Call::Integer(const Value* value, int64_t otherwise) const {
  if (value == nullptr) return otherwise;
  if (value->is_undefined()) context.RefuseUndefined(*value);
  if (!value->is_integer()) Refuse("takes a whole number", "", std::string(TypeName(*value)));
  return value->integer();
}

const std::string& Call::Text(const Value* value, const std::string& otherwise) const {
  if (value == nullptr) return otherwise;
  if (value->is_undefined()) context.RefuseUndefined(*value);
  if (!value->is_string()) Refuse("takes a string", "", std::string(TypeName(*value)));
  return value->text();
}

bool Call::Truth(const Value* value, bool otherwise) const {
  return value != nullptr ? jinja::Truth(*value) : otherwise;
}

// ---- making

int Value::depth() const {
  if (is_sequence()) return sequence().depth;
  if (is_dict()) return dict().depth;
  return is_object() ? object().depth() : 0;
}

Value List(std::vector<Value> items, Context& context, Sequence::Kind kind) {
  context.Spend(16 * items.size());
  auto list = std::make_shared<Sequence>();
  list->kind = kind;
  list->depth = 1 + Deepest(items);
  if (list->depth > kMaxNesting) context.Refuse("lists or dicts nested too deeply");
  list->items = std::move(items);
  return Value(SequencePtr(std::move(list)));
}

const Value* Dict::Find(std::string_view hash_key) const {
  const auto it = index.find(std::string(hash_key));
  return it != index.end() ? &entries[it->second].second : nullptr;
}

void Dict::Set(std::string hash_key, Value key, Value value) {
  depth = std::max({depth, 1 + value.depth(), 1 + key.depth()});
  const auto [it, is_new] = index.emplace(std::move(hash_key), entries.size());
  if (is_new) {
    entries.emplace_back(std::move(key), std::move(value));
  } else {
    entries[it->second].second = std::move(value);
  }
}

void DictMaker::Set(Value key, Value value) {
  context_.Spend(64);
  std::string hash_key = HashKey(key, context_);
  dict_->Set(std::move(hash_key), std::move(key), std::move(value));
  if (dict_->depth > kMaxNesting) context_.Refuse("lists or dicts nested too deeply");
}

void DictMaker::Add(const Value& mapping) {
  if (mapping.is_dict()) {
    for (const auto& [key, value] : mapping.dict().entries) Set(key, value);
    return;
  }
  for (const Value& pair : Elements(mapping, context_)) {
    std::vector<Value> parts = Elements(pair, context_);
    if (parts.size() != 2) context_.Refuse("a dict is made of pairs");
    Set(std::move(parts[0]), std::move(parts[1]));
  }
}

Value DictMaker::Done() { return Value(DictPtr(std::move(dict_))); }

}  // namespace taipan::jinja
