#include "text/jinja/evaluate.h"

#include "base/error.h"
#include "text/jinja/filters.h"

namespace taipan::jinja {

constexpr size_t kStep = 64;  // the work of one expression

Value Evaluator::Evaluate(const Expression& e, Scope& scope) {
  const Context::Deeper deeper(context_);
  context_.line = e.line;
  context_.Spend(kStep);
  return Compute(e, scope);
}

Value Evaluator::Filtered(const Expression& e, Scope& scope, std::string text) {
  block_text_ = Value(std::move(text));
  return Evaluate(e, scope);
}

Value Evaluator::Name(const std::string& name, Scope& scope) {
  for (Scope* s = &scope; s != nullptr; s = s->parent) {
    const auto found = s->values.find(name);
    if (found != s->values.end()) return found->second;
  }
  if (const Value* function = GlobalFunction(name)) return *function;
  return Value::MakeUndefined(fmt::format("'{}' is undefined", name));
}

std::vector<Value> Evaluator::All(const std::vector<ExpressionPtr>& parts, Scope& scope) {
  std::vector<Value> values;
  for (const ExpressionPtr& part : parts) values.push_back(Evaluate(*part, scope));
  return values;
}

Value Evaluator::Compute(const Expression& e, Scope& scope) {
  using EK = Expression::Kind;
  switch (e.kind) {
    case EK::kLiteral:
      return e.literal;
    case EK::kRefused:
      context_.Refuse(e.name);
    case EK::kName:
      return Name(e.name, scope);
    case EK::kList:
      return List(All(e.parts, scope), context_);
    case EK::kTuple:
      return jinja::Tuple(All(e.parts, scope), context_);
    case EK::kDict: {
      DictMaker dict(context_);
      for (size_t i = 0; i < e.parts.size(); i += 2) {
        Value key = Evaluate(*e.parts[i], scope);
        dict.Set(std::move(key), Evaluate(*e.parts[i + 1], scope));
      }
      return dict.Done();
    }
    case EK::kAttribute: {
      const Value object = Evaluate(*e.parts[0], scope);
      context_.line = e.line;
      return Attribute(object, e.name, context_);
    }
    case EK::kItem: {
      const Value object = Evaluate(*e.parts[0], scope);
      return Item(object, Evaluate(*e.parts[1], scope), context_);
    }
    case EK::kSlice:
      return SliceOf(e, scope);
    case EK::kCall:
      return Invoke(e, scope);
    case EK::kFilter: {
      const Value input = e.parts[0] != nullptr ? Evaluate(*e.parts[0], scope) : std::exchange(block_text_, Value());
      Call call = Arguments(e, scope);
      call.name = e.name;
      return ApplyFilter(input, call);
    }
    case EK::kTest: {
      const Value input = Evaluate(*e.parts[0], scope);
      Call call = Arguments(e, scope);
      call.name = e.name;
      return Value(ApplyTest(input, call));
    }
    case EK::kUnary:
      return Unary(e, scope);
    case EK::kBinary:
      return Binary(e, scope);
    case EK::kConcat: {
      std::string text;
      for (const ExpressionPtr& part : e.parts) {
        text += Str(Evaluate(*part, scope), context_);
        context_.Reserve(text.size());
      }
      return Value(std::move(text));
    }
    case EK::kCompare:
      return Comparisons(e, scope);
    case EK::kChoice:
      if (Truth(Evaluate(*e.parts[1], scope))) return Evaluate(*e.parts[0], scope);
      if (e.parts[2] != nullptr) return Evaluate(*e.parts[2], scope);
      return Value::MakeUndefined("the inline if was false and has no else");
  }
  return Value();
}

Value Evaluator::Unary(const Expression& e, Scope& scope) {
  const Value value = Evaluate(*e.parts[0], scope);
  if (e.name == "not") return Value(!Truth(value));
  if (e.name == "-") return Negative(value, context_);
  if (value.is_undefined()) context_.RefuseUndefined(value);
  if (!value.is_number()) context_.Refuse("+ does not go with this type", "", std::string(TypeName(value)));
  return value.is_float() ? value : Value(value.integer());
}

Value Evaluator::Binary(const Expression& e, Scope& scope) {
  const Value a = Evaluate(*e.parts[0], scope);
  if (e.name == "and") return Truth(a) ? Evaluate(*e.parts[1], scope) : a;
  if (e.name == "or") return Truth(a) ? a : Evaluate(*e.parts[1], scope);
  const Value b = Evaluate(*e.parts[1], scope);
  context_.line = e.line;
  return Arithmetic(e.name, a, b, context_);
}

Value Evaluator::Comparisons(const Expression& e, Scope& scope) {
  Value left = Evaluate(*e.parts[0], scope);
  for (size_t i = 0; i < e.operators.size(); ++i) {
    Value right = Evaluate(*e.parts[i + 1], scope);
    context_.line = e.line;
    if (!Compare(e.operators[i], left, right, context_)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Evaluator::SliceOf(const Expression& e, Scope& scope) {
  const Value object = Evaluate(*e.parts[0], scope);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (e.parts[i + 1] != nullptr) bounds[i] = Evaluate(*e.parts[i + 1], scope);
  }
  context_.line = e.line;
  return Slice(object, bounds[0], bounds[1], bounds[2], context_);
}

Call Evaluator::Arguments(const Expression& e, Scope& scope) {
  Call call{context_, "", All(e.arguments.positional, scope)};
  for (const auto& [key, argument] : e.arguments.named) call.named.emplace_back(key, Evaluate(*argument, scope));
  if (e.arguments.more_positional) {
    for (Value& value : Elements(Evaluate(*e.arguments.more_positional, scope), context_)) {
      call.positional.push_back(std::move(value));
    }
  }
  if (e.arguments.more_named) {
    const Value more = Evaluate(*e.arguments.more_named, scope);
    if (!more.is_dict()) context_.Refuse("** takes a dict", "", std::string(TypeName(more)));
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_string()) context_.Refuse("the keys of ** must be strings", "", std::string(TypeName(key)));
      call.named.emplace_back(key.text(), value);
    }
  }
  context_.line = e.line;
  return call;
}

Value Evaluator::Invoke(const Expression& e, Scope& scope, const Value* caller) {
  const Expression& callee = *e.parts[0];
  const Value function = Evaluate(callee, scope);
  Call call = Arguments(e, scope);
  call.name = callee.name;
  if (caller != nullptr) call.named.emplace_back("caller", *caller);
  if (function.is_undefined()) context_.RefuseUndefined(function);
  if (!function.is_object()) {
    context_.Refuse(fmt::format("a value of type {} is not callable", TypeName(function)), "", callee.name);
  }
  const Context::Deeper deeper(context_);
  return function.object().Invoke(call);
}

}  // namespace taipan::jinja
