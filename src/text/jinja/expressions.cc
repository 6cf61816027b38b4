#include "text/jinja/expressions.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

// Of nesting, and of operators in a row (which nest in the tree too): the tree is freed by recursion.
constexpr int kMaxDepth = 300, kMaxChain = 400;

}  // namespace

ExpressionParser::Deeper::Deeper(ExpressionParser& p) : parser(p) {
  if (++parser.depth_ > kMaxDepth) Refuse(parser.where_, parser.Now().line, "nested too deeply");
}

void ExpressionParser::Unexpected(const std::string& expected) const {
  static constexpr std::array kNames = {"text",     "{{", "}}", "{%",       "%}", "",
                                        "a string", "",   "",   "a string", "",   "the end"};
  const char* name = kNames[static_cast<size_t>(Now().kind)];
  Refuse(where_, Now().line, "syntax error", expected, *name != '\0' ? name : Now().text);
}

ExpressionPtr ExpressionParser::Make(Expression::Kind kind, std::string name) const {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->line = Now().line;
  e->name = std::move(name);
  return e;
}

ExpressionPtr ExpressionParser::Make(Expression::Kind kind, std::string name, ExpressionPtr first,
                                     ExpressionPtr second) const {
  ExpressionPtr e = Make(kind, std::move(name));
  e->parts.push_back(std::move(first));
  if (second != nullptr) e->parts.push_back(std::move(second));
  return e;
}

ExpressionPtr ExpressionParser::Condition() {
  const Deeper deeper(*this);
  ExpressionPtr e = Or();
  for (int chain = 0; SkipWord("if"); Lengthen(chain)) {
    ExpressionPtr condition = Or();
    e = Make(EK::kChoice, "", std::move(e), std::move(condition));
    e->parts.push_back(SkipWord("else") ? Condition() : nullptr);
  }
  return e;
}

ExpressionPtr ExpressionParser::Or() {
  ExpressionPtr e = And();
  for (int chain = 0; SkipWord("or"); Lengthen(chain)) e = Make(EK::kBinary, "or", std::move(e), And());
  return e;
}

ExpressionPtr ExpressionParser::And() {
  ExpressionPtr e = Not();
  for (int chain = 0; SkipWord("and"); Lengthen(chain)) e = Make(EK::kBinary, "and", std::move(e), Not());
  return e;
}

ExpressionPtr ExpressionParser::Not() {
  const Deeper deeper(*this);
  if (SkipWord("not")) return Make(EK::kUnary, "not", Not());
  return Compare();
}

ExpressionPtr ExpressionParser::Compare() {
  ExpressionPtr e = Sum();
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> operators;
  while (true) {
    std::string_view op;
    for (const std::string_view one : {"==", "!=", "<", "<=", ">", ">="}) {
      if (Is(one)) op = one;
    }
    if (IsWord("in")) op = "in";
    if (IsWord("not") && Next().kind == Kind::kName && Next().text == "in") {
      Take();
      op = "not in";
    }
    if (op.empty()) break;
    Take();
    operators.emplace_back(op);
    parts.push_back(Sum());
  }
  if (operators.empty()) return e;
  e = Make(EK::kCompare, "", std::move(e));
  for (ExpressionPtr& part : parts) e->parts.push_back(std::move(part));
  e->operators = std::move(operators);
  return e;
}

ExpressionPtr ExpressionParser::Sum() {
  ExpressionPtr e = Concat();
  for (int chain = 0; Is("+") || Is("-"); Lengthen(chain)) {
    const std::string& op = Take().text;
    e = Make(EK::kBinary, op, std::move(e), Concat());
  }
  return e;
}

ExpressionPtr ExpressionParser::Concat() {
  ExpressionPtr e = Product();
  if (!Is("~")) return e;
  e = Make(EK::kConcat, "", std::move(e));
  while (Skip("~")) e->parts.push_back(Product());
  return e;
}

ExpressionPtr ExpressionParser::Product() {
  ExpressionPtr e = Power();
  for (int chain = 0; Is("*") || Is("/") || Is("//") || Is("%"); Lengthen(chain)) {
    const std::string op = Take().text;
    e = Make(EK::kBinary, op, std::move(e), Power());
  }
  return e;
}

ExpressionPtr ExpressionParser::Power() {
  ExpressionPtr e = Unary(true);
  for (int chain = 0; Skip("**"); Lengthen(chain)) e = Make(EK::kBinary, "**", std::move(e), Unary(true));
  return e;
}

ExpressionPtr ExpressionParser::Unary(bool with_filters) {
  const Deeper deeper(*this);
  ExpressionPtr e;
  if (Skip("-")) {
    e = Make(EK::kUnary, "-", Unary(false));
  } else if (Skip("+")) {
    e = Make(EK::kUnary, "+", Unary(false));
  } else {
    e = Primary();
  }
  e = Postfix(std::move(e));
  return with_filters ? Filters(std::move(e)) : std::move(e);
}

ExpressionPtr ExpressionParser::Literal(Value value) const {
  ExpressionPtr e = Make(EK::kLiteral);
  e->literal = std::move(value);
  return e;
}

ExpressionPtr ExpressionParser::Number() {
  const bool is_float = Now().kind == Kind::kFloat;
  const std::string text = Take().text;
  if (is_float) return Literal(Value(ParseFloat(text).value_or(0)));
  if (text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != text.npos && text[1] <= '9') {
    Refuse(where_, Now().line, "a number begins with 0", "", text);
  }
  const ParsedInteger parsed = ParseInteger(text, 0);
  if (parsed.value) return Literal(Value(*parsed.value));
  return Make(EK::kRefused, "a whole number is too large (at most 64 bits with the sign)");
}

ExpressionPtr ExpressionParser::Text() {
  std::string text;
  ExpressionPtr refused;
  while (Now().kind == Kind::kString || Now().kind == Kind::kRefused) {
    const Token& token = Take();
    if (token.kind == Kind::kRefused) refused = Make(EK::kRefused, token.text);
    text += token.text;
  }
  return refused ? std::move(refused) : Literal(Value(std::move(text)));
}

ExpressionPtr ExpressionParser::Primary() {
  if (Now().kind == Kind::kString || Now().kind == Kind::kRefused) return Text();
  if (Now().kind == Kind::kInteger || Now().kind == Kind::kFloat) return Number();
  if (Now().kind == Kind::kName) {
    const std::string name = Take().text;
    if (name == "true" || name == "True") return Literal(Value(true));
    if (name == "false" || name == "False") return Literal(Value(false));
    if (name == "none" || name == "None") return Literal(Value());
    for (std::set<std::string>* names : named_) names->insert(name);
    return Make(EK::kName, name);
  }
  if (Skip("[")) return Elements(Make(EK::kList), "]");
  if (Skip("{")) return Dict();
  if (!Skip("(")) Unexpected("an expression");
  if (Skip(")")) return Make(EK::kTuple);
  ExpressionPtr e = Tuple();
  Expect(")");
  return e;
}

ExpressionPtr ExpressionParser::Tuple(bool with_choice) {
  const Deeper deeper(*this);
  const auto one = [&] { return with_choice ? Condition() : Or(); };
  ExpressionPtr e = one();
  if (!Is(",")) return e;
  e = Make(EK::kTuple, "", std::move(e));
  while (Skip(",")) {
    const bool ends = Now().kind == Kind::kPrintEnd || Now().kind == Kind::kBlockEnd || Is(")") ||
                      (!with_choice && IsWord("recursive"));
    if (ends) break;
    e->parts.push_back(one());
  }
  return e;
}

ExpressionPtr ExpressionParser::Elements(ExpressionPtr list, std::string_view end) {
  while (!Skip(end)) {
    list->parts.push_back(Condition());
    if (!Is(end)) Expect(",");
  }
  return list;
}

ExpressionPtr ExpressionParser::Dict() {
  ExpressionPtr dict = Make(EK::kDict);
  while (!Skip("}")) {
    dict->parts.push_back(Condition());
    Expect(":");
    dict->parts.push_back(Condition());
    if (!Is("}")) Expect(",");
  }
  return dict;
}

void ExpressionParser::Lengthen(int& chain) const {
  if (++chain > kMaxChain) Refuse(where_, Now().line, "nested too deeply");
}

ExpressionPtr ExpressionParser::Postfix(ExpressionPtr e) {
  for (int chain = 0;; Lengthen(chain)) {
    if (Skip(".")) {
      if (Now().kind == Kind::kInteger) {
        e = Make(EK::kItem, "", std::move(e), Number());
      } else {
        e = Make(EK::kAttribute, Name(), std::move(e));
      }
    } else if (Skip("[")) {
      e = Subscript(std::move(e));
    } else if (Is("(")) {
      e = Make(EK::kCall, "", std::move(e));
      e->arguments = CallArguments();
    } else {
      return e;
    }
  }
}

ExpressionPtr ExpressionParser::Subscript(ExpressionPtr e) {
  ExpressionPtr bounds[3];
  size_t colons = 0;
  while (!Skip("]")) {
    if (Skip(":")) {
      if (++colons > 2) Unexpected("]");
    } else if (bounds[colons] == nullptr) {
      bounds[colons] = Condition();
    } else {
      Unexpected("]");
    }
  }
  if (colons == 0 && bounds[0] == nullptr) Unexpected("an index");
  if (colons == 0) return Make(EK::kItem, "", std::move(e), std::move(bounds[0]));
  e = Make(EK::kSlice, "", std::move(e));
  for (ExpressionPtr& bound : bounds) e->parts.push_back(std::move(bound));
  return e;
}

Arguments ExpressionParser::CallArguments() {
  Arguments arguments;
  Expect("(");
  while (!Skip(")")) {
    if (Skip("**")) {
      if (arguments.more_named) Unexpected("one ** only");
      arguments.more_named = Condition();
    } else if (Skip("*")) {
      if (arguments.more_positional || arguments.more_named) Unexpected("one * before **");
      arguments.more_positional = Condition();
    } else if (Now().kind == Kind::kName && Next().kind == Kind::kOperator && Next().text == "=") {
      const std::string name = Name();
      Take();
      arguments.named.emplace_back(name, Condition());
    } else if (arguments.named.empty() && !arguments.more_positional && !arguments.more_named) {
      arguments.positional.push_back(Condition());
    } else {
      Unexpected("a named argument");
    }
    if (!Is(")")) Expect(",");
  }
  return arguments;
}

std::string ExpressionParser::DottedName() {
  std::string name = Name();
  while (Skip(".")) name.append(".").append(Name());
  return name;
}

ExpressionPtr ExpressionParser::OneFilter(ExpressionPtr input) {
  ExpressionPtr e = Make(EK::kFilter, DottedName());
  e->parts.push_back(std::move(input));
  if (Is("(")) e->arguments = CallArguments();
  return e;
}

ExpressionPtr ExpressionParser::FilterChain(ExpressionPtr input) {
  for (int chain = 0; Skip("|"); Lengthen(chain)) input = OneFilter(std::move(input));
  return input;
}

ExpressionPtr ExpressionParser::Filters(ExpressionPtr e) {
  for (int chain = 0;; Lengthen(chain)) {
    if (Skip("|")) {
      e = OneFilter(std::move(e));
    } else if (SkipWord("is")) {
      const bool negated = SkipWord("not");
      e = Make(EK::kTest, DottedName(), std::move(e));
      TestArguments(e->arguments);
      if (negated) e = Make(EK::kUnary, "not", std::move(e));
    } else if (Is("(")) {
      e = Make(EK::kCall, "", std::move(e));
      e->arguments = CallArguments();
    } else {
      return e;
    }
  }
}

void ExpressionParser::TestArguments(Arguments& arguments) {
  if (Is("(")) {
    arguments = CallArguments();
    return;
  }
  const Kind kind = Now().kind;
  const bool word = kind == Kind::kName && !IsWord("else") && !IsWord("or") && !IsWord("and");
  if (IsWord("is")) Refuse(where_, Now().line, "tests cannot be chained with is");
  if (word || kind == Kind::kString || kind == Kind::kRefused || kind == Kind::kInteger || kind == Kind::kFloat ||
      Is("[") || Is("{")) {
    arguments.positional.push_back(Postfix(Primary()));
  }
}

}  // namespace taipan::jinja
