#include "text/jinja_render.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "text/jinja_functions.h"

namespace taipan::jinja {
namespace {

constexpr int kMaxDepth = 500;                  // of expressions, statements and macros under way
constexpr int kMaxNesting = 64;                 // of lists in lists
constexpr int64_t kMaxWork = int64_t{1} << 28;  // so that no template runs or grows without end: bytes, and
constexpr int64_t kStep = 64;                   // so much for each expression, statement and element

class Renderer {
 public:
  Renderer(std::map<std::string, Value> variables, const std::string& where) : where_(where) {
    scopes_.push_back(std::move(variables));
    scopes_.emplace_back();  // what the template itself sets
  }

  std::string Run(const std::vector<Statement>& statements) {
    Execute(statements);
    return std::move(out_);
  }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  using EK = Expression::Kind;

  struct Deeper {
    Deeper(Renderer& r, int line) : renderer(r) {
      if (++renderer.depth_ > kMaxDepth) Refuse(renderer.where_, line, "nested too deeply");
    }
    ~Deeper() { --renderer.depth_; }
    Renderer& renderer;
  };

  void Spend(int64_t work, int line) {
    work_ += work;
    if (work_ > kMaxWork) Refuse(where_, line, "the template runs or grows without end");
  }

  // ---- statements

  Flow Execute(const std::vector<Statement>& body) {
    for (const Statement& s : body) {
      const Deeper deeper(*this, s.line);
      const Flow flow = Execute(s);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow Execute(const Statement& s) {
    Spend(kStep, s.line);
    switch (s.kind) {
      case Statement::Kind::kText:
        Print(s.text, s.line);
        return Flow::kNext;
      case Statement::Kind::kPrint:
        Print(Show(Evaluate(*s.value), At(s.line)), s.line);
        return Flow::kNext;
      case Statement::Kind::kIf:
        return Execute(Truth(Evaluate(*s.value)) ? s.body : s.otherwise);
      case Statement::Kind::kFor:
        return For(s);
      case Statement::Kind::kSet:
        scopes_.back()[s.names[0]] = Evaluate(*s.value);
        if (MakesNamespace(*s.value)) namespaces_.insert(s.names[0]);
        return Flow::kNext;
      case Statement::Kind::kSetAttribute: {
        Value value = Evaluate(*s.value);
        Value* object = Find(s.names[0]);
        if (object == nullptr || !object->is_object() || namespaces_.count(s.names[0]) == 0) {
          Refuse(where_, s.line, "attributes are set on a namespace only", "", s.names[0]);
        }
        (*object)[s.text] = std::move(value);
        return Flow::kNext;
      }
      case Statement::Kind::kSetBlock:
        scopes_.back()[s.names[0]] = Captured(s.body);
        return Flow::kNext;
      case Statement::Kind::kMacro:
        macros_[s.text] = &s;
        return Flow::kNext;
      case Statement::Kind::kScope: {
        scopes_.emplace_back();
        const Flow flow = Execute(s.body);
        scopes_.pop_back();
        return flow;
      }
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  static bool MakesNamespace(const Expression& e) {
    return e.kind == EK::kCall && e.parts[0]->kind == EK::kName && e.parts[0]->name == "namespace";
  }

  void Print(std::string_view text, int line) {
    Spend(static_cast<int64_t>(text.size()), line);
    out_ += text;
  }

  std::string Captured(const std::vector<Statement>& body) {
    std::string before = std::exchange(out_, "");
    scopes_.emplace_back();
    Execute(body);
    scopes_.pop_back();
    return std::exchange(out_, std::move(before));
  }

  void Bind(const Statement& s, const Value& element) {
    if (s.names.size() == 1) {
      scopes_.back()[s.names[0]] = element;
      return;
    }
    const std::vector<Value> parts = Elements(element, At(s.line));
    if (parts.size() != s.names.size()) {
      Refuse(where_, s.line, "a loop's element has another number of parts", std::to_string(s.names.size()),
             std::to_string(parts.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) scopes_.back()[s.names[i]] = parts[i];
  }

  Flow For(const Statement& s) {
    std::vector<Value> elements = Elements(Evaluate(*s.value), At(s.line));
    if (s.condition != nullptr) {
      const auto fails = [&](const Value& element) {
        scopes_.emplace_back();
        Bind(s, element);
        const bool keep = Truth(Evaluate(*s.condition));
        scopes_.pop_back();
        return !keep;
      };
      elements.erase(std::remove_if(elements.begin(), elements.end(), fails), elements.end());
    }
    if (elements.empty()) return Execute(s.otherwise);
    for (size_t i = 0; i < elements.size(); ++i) {
      scopes_.emplace_back();
      Bind(s, elements[i]);
      Value loop = {{"index", i + 1},
                    {"index0", i},
                    {"first", i == 0},
                    {"last", i + 1 == elements.size()},
                    {"length", elements.size()},
                    {"revindex", elements.size() - i},
                    {"revindex0", elements.size() - i - 1}};
      if (i > 0) loop["previtem"] = elements[i - 1];
      if (i + 1 < elements.size()) loop["nextitem"] = elements[i + 1];
      scopes_.back()["loop"] = std::move(loop);
      const Flow flow = Execute(s.body);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  // ---- names

  // The innermost variable of this name; a macro sees its own and the template's.
  Value* Find(const std::string& name) {
    for (size_t i = scopes_.size(); i-- > 0;) {
      if (i >= 2 && i < hidden_to_) continue;
      const auto it = scopes_[i].find(name);
      if (it != scopes_[i].end()) return &it->second;
    }
    return nullptr;
  }

  // The variable, or the part of one, that an expression such as messages[0]['role'] names; null where it is none.
  // Saves a copy of all messages for each look at one of them.
  const Value* Reference(const Expression& e) {
    if (e.kind == EK::kName) return Find(e.name);
    if (e.kind != EK::kAttribute && e.kind != EK::kItem) return nullptr;
    const Value* object = Reference(*e.parts[0]);
    if (object == nullptr) return nullptr;
    const Value index = e.kind == EK::kAttribute ? Value(e.name) : Evaluate(*e.parts[1]);
    if (object->is_object() && index.is_string()) {
      const auto it = object->find(index.get_ref<const std::string&>());
      return it != object->end() ? &*it : nullptr;
    }
    if (!object->is_array() || !index.is_number_integer()) return nullptr;
    const auto i = index.get<int64_t>();
    return i >= 0 && i < static_cast<int64_t>(object->size()) ? &(*object)[static_cast<size_t>(i)] : nullptr;
  }

  Call At(int line) const { return {where_, line, "", {}, {}}; }

  Call Evaluated(const Expression& e, const std::string& name) {
    Call call{where_, e.line, name, {}, {}};
    for (const ExpressionPtr& argument : e.arguments.positional) call.positional.push_back(Evaluate(*argument));
    for (const auto& [key, argument] : e.arguments.named) call.named.emplace_back(key, Evaluate(*argument));
    return call;
  }

  // ---- expressions

  Value Evaluate(const Expression& e) {
    const Deeper deeper(*this, e.line);
    Spend(kStep, e.line);
    if (const Value* known = Reference(e); known != nullptr) return Charged(*known, e.line);
    return Charged(Compute(e), e.line);
  }

  Value Charged(Value value, int line) {
    Charge(value, line, 0);
    return value;
  }

  void Charge(const Value& value, int line, int nesting) {
    if (nesting > kMaxNesting) Refuse(where_, line, "lists or dicts nested too deeply");
    Spend(value.is_string() ? static_cast<int64_t>(value.get_ref<const std::string&>().size()) : kStep, line);
    if (!value.is_structured()) return;
    for (const Value& element : value) Charge(element, line, nesting + 1);
  }

  Value Compute(const Expression& e) {
    switch (e.kind) {
      case EK::kLiteral:
        return e.literal;
      case EK::kName:
        if (IsFunction(e.name) || macros_.count(e.name) != 0) {
          Refuse(where_, e.line, "a function as a value is not supported", "", e.name);
        }
        return Undefined();
      case EK::kList: {
        Value list = Value::array();
        for (const ExpressionPtr& part : e.parts) list.push_back(Evaluate(*part));
        return list;
      }
      case EK::kDict:
        return Dict(e);
      case EK::kAttribute:
      case EK::kItem:
        return ItemOf(e);
      case EK::kSlice: {
        const auto bound = [&](size_t i) { return e.parts[i] != nullptr ? Evaluate(*e.parts[i]) : Value(nullptr); };
        return Slice(Evaluate(*e.parts[0]), bound(1), bound(2), bound(3), At(e.line));
      }
      case EK::kCall:
        return CallOf(e);
      case EK::kFilter:
        if (const Value* known = Reference(*e.parts[0])) return ApplyFilter(*known, Evaluated(e, e.name));
        return ApplyFilter(Evaluate(*e.parts[0]), Evaluated(e, e.name));
      case EK::kTest:
        return Test(e);
      case EK::kUnary: {
        const Value value = Evaluate(*e.parts[0]);
        return e.name == "not" ? Value(!Truth(value)) : Arithmetic("-", 0, value, At(e.line));
      }
      case EK::kBinary:
        return Binary(e);
      case EK::kConcat: {
        std::string text;
        for (const ExpressionPtr& part : e.parts) text += Show(Evaluate(*part), At(e.line));
        return text;
      }
      case EK::kCompare:
        return Comparisons(e);
      case EK::kChoice:
        if (Truth(Evaluate(*e.parts[1]))) return Evaluate(*e.parts[0]);
        return e.parts[2] != nullptr ? Evaluate(*e.parts[2]) : Undefined();
    }
    return Undefined();
  }

  Value Dict(const Expression& e) {
    Value dict = Value::object();
    for (size_t i = 0; i < e.parts.size(); i += 2) {
      const Value key = Evaluate(*e.parts[i]);
      if (!key.is_string()) Refuse(where_, e.line, "a dict's key must be a string", "", TypeName(key));
      dict[key.get_ref<const std::string&>()] = Evaluate(*e.parts[i + 1]);
    }
    return dict;
  }

  Value ItemOf(const Expression& e) {
    const Value object = Evaluate(*e.parts[0]);
    if (object.is_discarded()) {
      Refuse(where_, e.line, "a part of something undefined is asked for", "",
             e.kind == EK::kAttribute ? "." + e.name : e.parts[0]->name);
    }
    return Item(object, e.kind == EK::kAttribute ? Value(e.name) : Evaluate(*e.parts[1]));
  }

  Value Test(const Expression& e) {
    const Expression& input = *e.parts[0];
    const bool function = input.kind == EK::kName && Find(input.name) == nullptr &&
                          (macros_.count(input.name) != 0 || IsFunction(input.name));
    if (function && (e.name == "defined" || e.name == "undefined")) return e.name == "defined";
    return ApplyTest(Evaluate(input), Evaluated(e, e.name));
  }

  Value Binary(const Expression& e) {
    Value a = Evaluate(*e.parts[0]);
    if (e.name == "and") return Truth(a) ? Evaluate(*e.parts[1]) : a;
    if (e.name == "or") return Truth(a) ? a : Evaluate(*e.parts[1]);
    return Arithmetic(e.name, std::move(a), Evaluate(*e.parts[1]), At(e.line));
  }

  Value Comparisons(const Expression& e) {
    Value left = Evaluate(*e.parts[0]);
    for (size_t i = 0; i < e.operators.size(); ++i) {
      Value right = Evaluate(*e.parts[i + 1]);
      if (!Compare(e.operators[i], left, right, At(e.line))) return false;
      left = std::move(right);
    }
    return true;
  }

  // ---- calls

  Value CallOf(const Expression& e) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == EK::kAttribute) {
      const Value object = Evaluate(*callee.parts[0]);
      if (object.is_discarded()) Refuse(where_, e.line, "a method of something undefined", "", callee.name);
      return CallMethod(object, Evaluated(e, callee.name));
    }
    if (callee.kind != EK::kName) Refuse(where_, e.line, "only functions, macros and methods can be called");
    const Call call = Evaluated(e, callee.name);
    if (const auto it = macros_.find(call.name); it != macros_.end()) return CallMacro(*it->second, call);
    return CallFunction(call);
  }

  Value CallMacro(const Statement& macro, const Call& call) {
    const size_t count = macro.names.size(), required = count - macro.defaults.size();
    call.Allow(count, {macro.names.begin(), macro.names.end()});
    std::map<std::string, Value> scope;
    for (size_t i = 0; i < count; ++i) {
      const Value* given = call.Argument(i, macro.names[i]);
      scope[macro.names[i]] = given != nullptr ? *given
                              : i >= required  ? Evaluate(*macro.defaults[i - required])
                                               : Undefined();
    }
    const size_t hidden = std::exchange(hidden_to_, scopes_.size());
    scopes_.push_back(std::move(scope));
    std::string text = Captured(macro.body);
    scopes_.pop_back();
    hidden_to_ = hidden;
    return text;
  }

  const std::string& where_;
  std::vector<std::map<std::string, Value>> scopes_;  // the caller's variables, the template's, then the open ones
  size_t hidden_to_ = 2;  // scopes from 2 to this one belong to the callers of the macro under way
  std::map<std::string, const Statement*> macros_;
  std::set<std::string> namespaces_;  // names of variables that namespace() made
  std::string out_;
  int depth_ = 0;
  int64_t work_ = 0;
};

}  // namespace

std::string Render(const std::vector<Statement>& statements, std::map<std::string, Value> variables,
                   const std::string& where) {
  return Renderer(std::move(variables), where).Run(statements);
}

}  // namespace taipan::jinja
