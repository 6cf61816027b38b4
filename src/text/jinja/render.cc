#include "text/jinja/render.h"

#include <algorithm>

#include "base/error.h"
#include "text/jinja/evaluate.h"
#include "text/jinja/filters.h"
#include "text/jinja/loop.h"

namespace taipan::jinja {
namespace {

constexpr size_t kStep = 64, kScopeWork = 512;

class Renderer {
 public:
  Renderer(std::map<std::string, Value> variables, const std::string& where)
      : context_(where), evaluator_(context_), given_{nullptr, std::move(variables)}, top_{&given_} {}

  std::string Run(const std::vector<Statement>& statements) {
    Execute(statements, top_);
    return std::move(out_);
  }

 private:
  enum class Flow { kNext, kBreak, kContinue };

  // A scope inside of another one, for as long as it is open, or as a macro looks at it.
  class Inner {
   public:
    Inner(Renderer& renderer, Scope& parent) : renderer_(renderer), scope_(std::make_unique<Scope>()) {
      scope_->parent = &parent;
    }
    ~Inner() {
      if (scope_->kept) renderer_.kept_.push_back(std::move(scope_));
    }
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;
    Scope& operator*() { return *scope_; }

   private:
    Renderer& renderer_;
    std::unique_ptr<Scope> scope_;
  };

  void Keep(Scope& scope) {
    context_.Spend(kScopeWork);
    for (Scope* s = &scope; s != nullptr && !s->kept; s = s->parent) s->kept = true;
  }

  class Macro : public Object {
   public:
    Macro(Renderer& renderer, const Statement& s, Scope& scope) : renderer_(renderer), statement_(s), scope_(scope) {
      renderer.Keep(scope);
    }
    std::string_view type_name() const override { return "Macro"; }
    bool callable() const override { return true; }
    std::optional<std::string> Repr(Context& context) const override {
      return fmt::format("<Macro {}>", jinja::Repr(Value(statement_.signature.name), context));
    }
    std::optional<Value> Attribute(std::string_view name, Context& context) override;
    Value Invoke(Call& call) override { return renderer_.CallMacro(statement_, scope_, call); }

   private:
    Renderer& renderer_;
    const Statement& statement_;
    Scope& scope_;
  };

  Value MakeMacro(const Statement& s, Scope& scope) {
    return Value(ObjectPtr(std::make_shared<Macro>(*this, s, scope)));
  }

  // ---- statements

  Flow Execute(const std::vector<Statement>& body, Scope& scope) {
    for (const Statement& s : body) {
      const Context::Deeper deeper(context_);
      context_.line = s.line;
      context_.Spend(kStep);
      const Flow flow = Execute(s, scope);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow Execute(const Statement& s, Scope& scope) {
    using SK = Statement::Kind;
    switch (s.kind) {
      case SK::kText:
        Print(s.text);
        return Flow::kNext;
      case SK::kPrint:
        Print(Str(evaluator_.Evaluate(*s.value, scope), context_));
        return Flow::kNext;
      case SK::kIf:
        return Execute(Truth(evaluator_.Evaluate(*s.value, scope)) ? s.body : s.otherwise, scope);
      case SK::kFor:
        return For(s, evaluator_.Evaluate(*s.value, scope), scope, 0);
      case SK::kSet:
        Assign(s.targets[0], evaluator_.Evaluate(*s.value, scope), scope, scope);
        return Flow::kNext;
      case SK::kSetBlock:
      case SK::kFilterBlock:
        return Block(s, scope);
      case SK::kMacro:
        scope.values[s.signature.name] = MakeMacro(s, scope);
        return Flow::kNext;
      case SK::kCallBlock: {
        const Value caller = MakeMacro(s, scope);
        Print(Str(evaluator_.Invoke(*s.value, scope, &caller), context_));
        return Flow::kNext;
      }
      case SK::kWith:
        return With(s, scope);
      case SK::kScope: {
        Inner inner(*this, scope);
        return Execute(s.body, *inner);
      }
      case SK::kBreak:
        return Flow::kBreak;
      case SK::kContinue:
        return Flow::kContinue;
      case SK::kRefused:
        context_.Refuse("a statement that is not supported", "", s.text);
    }
    return Flow::kNext;
  }

  void Print(std::string_view text) {
    context_.Spend(text.size());
    out_ += text;
  }

  // What the statements print. A break or continue out of them loses it.
  Flow Captured(const std::vector<Statement>& body, Scope& scope, std::string& text) {
    std::string before = std::exchange(out_, "");
    const Flow flow = Execute(body, scope);
    text = std::exchange(out_, std::move(before));
    return flow;
  }

  Flow Block(const Statement& s, Scope& scope) {
    Inner inner(*this, scope);
    std::string text;
    const Flow flow = Captured(s.body, *inner, text);
    if (flow != Flow::kNext) return flow;
    Value value = s.value != nullptr ? evaluator_.Filtered(*s.value, scope, std::move(text)) : Value(std::move(text));
    if (s.kind == Statement::Kind::kFilterBlock) {
      Print(Str(value, context_));
    } else {
      Assign(s.targets[0], std::move(value), scope, scope);
    }
    return Flow::kNext;
  }

  Flow With(const Statement& s, Scope& scope) {
    Inner inner(*this, scope);
    for (size_t i = 0; i < s.targets.size(); ++i) {
      Assign(s.targets[i], evaluator_.Evaluate(*s.values[i], scope), *inner, scope);
    }
    return Execute(s.body, *inner);
  }

  // `seen`: where namespaces are looked for.
  void Assign(const Target& target, Value value, Scope& scope, Scope& seen) {
    if (target.several) {
      std::vector<Value> parts = Elements(value, context_);
      if (parts.size() != target.parts.size()) {
        context_.Refuse("another number of values to unpack", std::to_string(target.parts.size()),
                        std::to_string(parts.size()));
      }
      for (size_t i = 0; i < parts.size(); ++i) Assign(target.parts[i], std::move(parts[i]), scope, seen);
      return;
    }
    if (target.attribute.empty()) {
      scope.values[target.name] = std::move(value);
      return;
    }
    const Value* object = nullptr;
    for (Scope* s = &seen; s != nullptr && object == nullptr; s = s->parent) {
      const auto found = s->values.find(target.name);
      if (found != s->values.end()) object = &found->second;
    }
    auto* made = object != nullptr ? object->As<Namespace>() : nullptr;
    if (made == nullptr) context_.Refuse("attributes are set on a namespace only", "", target.name);
    made->Set(target.attribute, std::move(value), context_);
  }

  Flow For(const Statement& s, const Value& over, Scope& scope, int64_t depth) {
    std::vector<Value> elements = Elements(over, context_);
    if (s.condition != nullptr) {
      const auto fails = [&](const Value& element) {
        Inner inner(*this, scope);
        Assign(s.targets[0], element, *inner, scope);
        return !Truth(evaluator_.Evaluate(*s.condition, *inner));
      };
      elements.erase(std::remove_if(elements.begin(), elements.end(), fails), elements.end());
    }
    if (elements.empty()) {
      Inner inner(*this, scope);
      return Execute(s.otherwise, *inner);
    }
    std::function<Value(Call&, int64_t)> again;
    if (s.recursive) {
      Keep(scope);
      again = [this, &s, &scope](Call& call, int64_t deeper) { return Again(s, scope, call, deeper); };
    }
    const auto loop = std::make_shared<Loop>(std::move(elements), depth, std::move(again));
    for (size_t i = 0; i < loop->size(); ++i) {
      Inner inner(*this, scope);
      Assign(s.targets[0], loop->Begin(i), *inner, scope);
      (*inner).values["loop"] = Value(ObjectPtr(loop));
      if (Execute(s.body, *inner) == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  // loop(...): the loop once more, over other elements.
  Value Again(const Statement& s, Scope& scope, Call& call, int64_t depth) {
    const auto a = call.Bind({"iterable"}, 1);
    std::string before = std::exchange(out_, "");
    For(s, *a[0], scope, depth);
    return Value(std::exchange(out_, std::move(before)));
  }

  // ---- macros

  static const Value* TakeNamed(Call& call, const std::string& name, std::vector<bool>& taken) {
    for (size_t i = 0; i < call.named.size(); ++i) {
      if (call.named[i].first != name || taken[i]) continue;
      taken[i] = true;
      return &call.named[i].second;
    }
    return nullptr;
  }

  Value CallMacro(const Statement& s, Scope& around, Call& call) {
    const Signature& signature = s.signature;
    const size_t count = signature.parameters.size(), required = count - signature.defaults.size();
    if (call.positional.size() > count && !signature.uses_varargs) {
      context_.Refuse(fmt::format("the macro {} takes fewer arguments", signature.name),
                      fmt::format("at most {}", count), std::to_string(call.positional.size()));
    }
    Inner inner(*this, around);
    Scope& scope = *inner;
    std::vector<bool> taken(call.named.size(), false);
    const bool has_caller_parameter =
        std::find(signature.parameters.begin(), signature.parameters.end(), "caller") != signature.parameters.end();
    for (size_t i = 0; i < count; ++i) {
      const std::string& name = signature.parameters[i];
      const Value* given = i < call.positional.size() ? &call.positional[i] : TakeNamed(call, name, taken);
      if (given != nullptr) {
        scope.values[name] = *given;
      } else if (i >= required) {
        scope.values[name] = evaluator_.Evaluate(*signature.defaults[i - required], scope);
      } else {
        scope.values[name] = Value::MakeUndefined(fmt::format("parameter '{}' was not provided", name));
      }
    }
    if (signature.uses_caller && !has_caller_parameter) {
      const Value* caller = TakeNamed(call, "caller", taken);
      scope.values["caller"] = caller != nullptr ? *caller : Value::MakeUndefined("No caller defined");
    }
    Extra(signature, call, taken, scope);
    std::string text;
    Captured(s.body, scope, text);
    return Value(std::move(text));
  }

  void Extra(const Signature& signature, Call& call, const std::vector<bool>& taken, Scope& scope) {
    DictMaker kwargs(context_);
    for (size_t i = 0; i < call.named.size(); ++i) {
      if (taken[i]) continue;
      if (!signature.uses_kwargs) {
        context_.Refuse(fmt::format("the macro {} has no argument of this name", signature.name), "",
                        call.named[i].first);
      }
      kwargs.Set(Value(call.named[i].first), call.named[i].second);
    }
    if (signature.uses_kwargs) scope.values["kwargs"] = kwargs.Done();
    if (!signature.uses_varargs) return;
    const size_t begin = std::min(signature.parameters.size(), call.positional.size());
    scope.values["varargs"] =
        Tuple({call.positional.begin() + static_cast<std::ptrdiff_t>(begin), call.positional.end()}, context_);
  }

  Context context_;
  Evaluator evaluator_;
  Scope given_, top_;  // the caller's variables, the template's
  std::vector<std::unique_ptr<Scope>> kept_;
  std::string out_;
};

std::optional<Value> Renderer::Macro::Attribute(std::string_view name, Context& context) {
  const Signature& signature = statement_.signature;
  if (name == "name") return Value(signature.name);
  if (name == "catch_kwargs") return Value(signature.uses_kwargs);
  if (name == "catch_varargs") return Value(signature.uses_varargs);
  if (name == "caller") return Value(signature.uses_caller);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const std::string& parameter : signature.parameters) names.emplace_back(parameter);
  return Tuple(std::move(names), context);
}

}  // namespace

std::string Render(const std::vector<Statement>& statements, std::map<std::string, Value> variables,
                   const std::string& where) {
  return Renderer(std::move(variables), where).Run(statements);
}

}  // namespace taipan::jinja
