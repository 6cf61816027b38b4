#pragma once
// Expressions to values.

#include <map>
#include <string>
#include <vector>

#include "text/jinja/syntax.h"
#include "text/jinja/value.h"

namespace taipan::jinja {

// The names that a part of a template sets; those around it are seen through it.
struct Scope {
  Scope* parent = nullptr;
  std::map<std::string, Value> values = {};
  bool kept = false;  // a macro looks at it, so it lives as long as the rendering
};

class Evaluator {
 public:
  explicit Evaluator(Context& context) : context_(context) {}

  Value Evaluate(const Expression& e, Scope& scope);
  // Of the filters of a block: what they begin with is `text`.
  Value Filtered(const Expression& e, Scope& scope, std::string text);
  // Of a call, with `caller` among its arguments where it is not null.
  Value Invoke(const Expression& e, Scope& scope, const Value* caller = nullptr);

 private:
  Value Compute(const Expression& e, Scope& scope);
  Value Name(const std::string& name, Scope& scope);
  Value Unary(const Expression& e, Scope& scope);
  Value Binary(const Expression& e, Scope& scope);
  Value Comparisons(const Expression& e, Scope& scope);
  Value SliceOf(const Expression& e, Scope& scope);
  Call Arguments(const Expression& e, Scope& scope);
  std::vector<Value> All(const std::vector<ExpressionPtr>& parts, Scope& scope);

  Context& context_;
  Value block_text_;
};

}  // namespace taipan::jinja
