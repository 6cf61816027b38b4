// Tokens to a tree, with Jinja's precedences (which are not Python's: `~` binds closer than `+`, tests and filters
// closer than any operator).

#include <array>

#include "base/error.h"
#include "text/jinja_syntax.h"

namespace taipan::jinja {
namespace {

// Of nesting, and of operators in a row (which nest in the tree too): the tree is freed by recursion.
constexpr int kMaxDepth = 120, kMaxChain = 60;

class Parser {
 public:
  Parser(std::string_view source, const std::string& where) : tokens_(Tokenize(source, where)), where_(where) {}

  std::vector<Statement> Run() {
    std::vector<Statement> all = Body({});
    if (Now().kind != Token::Kind::kEnd) Unexpected("text or a statement");
    return all;
  }

 private:
  using Kind = Token::Kind;

  const Token& Now() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token Take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }

  [[noreturn]] void Unexpected(const std::string& expected) const {
    static constexpr std::array kNames = {"text", "{{", "}}", "{%", "%}", "", "a string", "", "", "the end"};
    const char* name = kNames[static_cast<size_t>(Now().kind)];
    Refuse(where_, Now().line, "syntax error", expected, *name != '\0' ? name : Now().text);
  }

  bool Is(std::string_view operation) const { return Now().kind == Kind::kOperator && Now().text == operation; }
  bool IsWord(std::string_view word) const { return Now().kind == Kind::kName && Now().text == word; }
  bool Skip(std::string_view operation) {
    if (!Is(operation)) return false;
    Take();
    return true;
  }
  bool SkipWord(std::string_view word) {
    if (!IsWord(word)) return false;
    Take();
    return true;
  }
  void Expect(std::string_view operation) {
    if (!Skip(operation)) Unexpected(std::string(operation));
  }
  void ExpectKind(Kind kind, const std::string& shown) {
    if (Now().kind != kind) Unexpected(shown);
    Take();
  }
  std::string Name() {
    if (Now().kind != Kind::kName) Unexpected("a name");
    return Take().text;
  }

  struct Deeper {
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth) Refuse(parser.where_, parser.Now().line, "nested too deeply");
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  // ---- statements

  using Words = std::vector<std::string_view>;

  // Statements until a tag that begins with one of `ends`; that tag's word is the current token then.
  std::vector<Statement> Body(const Words& ends) {
    const Deeper deeper(*this);
    std::vector<Statement> body;
    while (Now().kind != Kind::kEnd) {
      Statement s;
      s.line = Now().line;
      if (Now().kind == Kind::kText) {
        s.text = Take().text;
      } else if (Now().kind == Kind::kPrintBegin) {
        Take();
        s.kind = Statement::Kind::kPrint;
        s.value = Condition();
        ExpectKind(Kind::kPrintEnd, "}}");
      } else {
        ExpectKind(Kind::kBlockBegin, "a tag");
        for (const std::string_view end : ends) {
          if (IsWord(end)) return body;
        }
        s = Tag();
      }
      body.push_back(std::move(s));
    }
    if (!ends.empty()) Unexpected("{% " + std::string(ends.back()) + " %}");
    return body;
  }

  void EndTag(std::string_view word) {
    if (!SkipWord(word)) Unexpected(std::string(word));
    ExpectKind(Kind::kBlockEnd, "%}");
  }

  Statement Tag() {
    const int line = Now().line;
    const std::string word = Name();
    Statement s;
    if (word == "if") {
      s = If();
    } else if (word == "for") {
      s = For();
    } else if (word == "set") {
      s = Set();
    } else if (word == "macro") {
      s = Macro();
    } else if (word == "generation") {  // Hugging Face's mark around the assistant's words; it prints nothing itself
      s.kind = Statement::Kind::kScope;
      ExpectKind(Kind::kBlockEnd, "%}");
      s.body = Body({"endgeneration"});
      EndTag("endgeneration");
    } else if (word == "break" || word == "continue") {
      if (loops_ == 0) Refuse(where_, line, word + " outside of a loop");
      s.kind = word == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      ExpectKind(Kind::kBlockEnd, "%}");
    } else {
      Refuse(where_, line, "a statement that is not supported", "if, for, set, macro, generation, break, continue",
             word);
    }
    s.line = line;
    return s;
  }

  Statement If() {
    const Deeper deeper(*this);
    Statement s;
    s.kind = Statement::Kind::kIf;
    s.line = Now().line;
    s.value = Or();
    ExpectKind(Kind::kBlockEnd, "%}");
    s.body = Body({"elif", "else", "endif"});
    if (SkipWord("elif")) {
      s.otherwise.push_back(If());
      return s;
    }
    if (SkipWord("else")) {
      ExpectKind(Kind::kBlockEnd, "%}");
      s.otherwise = Body({"endif"});
    }
    EndTag("endif");
    return s;
  }

  Statement For() {
    Statement s;
    s.kind = Statement::Kind::kFor;
    do {
      s.names.push_back(Name());
    } while (Skip(","));
    if (!SkipWord("in")) Unexpected("in");
    s.value = Or();
    if (SkipWord("if")) s.condition = Condition();
    ExpectKind(Kind::kBlockEnd, "%}");
    ++loops_;
    s.body = Body({"else", "endfor"});
    --loops_;
    if (SkipWord("else")) {
      ExpectKind(Kind::kBlockEnd, "%}");
      s.otherwise = Body({"endfor"});
    }
    EndTag("endfor");
    return s;
  }

  Statement Set() {
    Statement s;
    s.names.push_back(Name());
    s.kind = Statement::Kind::kSet;
    if (Skip(".")) {
      s.kind = Statement::Kind::kSetAttribute;
      s.text = Name();
    }
    if (Skip("=")) {
      s.value = Condition();
      ExpectKind(Kind::kBlockEnd, "%}");
      return s;
    }
    if (s.kind == Statement::Kind::kSetAttribute || Now().kind != Kind::kBlockEnd) Unexpected("=");
    Take();
    s.kind = Statement::Kind::kSetBlock;
    s.body = Body({"endset"});
    EndTag("endset");
    return s;
  }

  Statement Macro() {
    if (depth_ > 1) Refuse(where_, Now().line, "a macro inside of another statement is not supported");
    Statement s;
    s.kind = Statement::Kind::kMacro;
    s.text = Name();
    Expect("(");
    while (!Skip(")")) {
      if (!s.names.empty()) Expect(",");
      s.names.push_back(Name());
      if (Skip("=")) {
        s.defaults.push_back(Condition());
      } else if (!s.defaults.empty()) {
        Unexpected("a default");
      }
    }
    ExpectKind(Kind::kBlockEnd, "%}");
    const int loops = std::exchange(loops_, 0);
    s.body = Body({"endmacro"});
    loops_ = loops;
    EndTag("endmacro");
    return s;
  }

  // ---- expressions, from the loosest binding to the closest

  ExpressionPtr Make(Expression::Kind kind, std::string name = "") const {
    auto e = std::make_unique<Expression>();
    e->kind = kind;
    e->line = Now().line;
    e->name = std::move(name);
    return e;
  }
  ExpressionPtr Make(Expression::Kind kind, std::string name, ExpressionPtr first,
                     ExpressionPtr second = nullptr) const {
    ExpressionPtr e = Make(kind, std::move(name));
    e->parts.push_back(std::move(first));
    if (second != nullptr) e->parts.push_back(std::move(second));
    return e;
  }
  using EK = Expression::Kind;

  ExpressionPtr Condition() {
    const Deeper deeper(*this);
    ExpressionPtr e = Or();
    for (int chain = 0; SkipWord("if"); Lengthen(chain)) {
      ExpressionPtr condition = Or();
      e = Make(EK::kChoice, "", std::move(e), std::move(condition));
      e->parts.push_back(SkipWord("else") ? Condition() : nullptr);
    }
    return e;
  }

  ExpressionPtr Or() {
    ExpressionPtr e = And();
    for (int chain = 0; SkipWord("or"); Lengthen(chain)) e = Make(EK::kBinary, "or", std::move(e), And());
    return e;
  }

  ExpressionPtr And() {
    ExpressionPtr e = Not();
    for (int chain = 0; SkipWord("and"); Lengthen(chain)) e = Make(EK::kBinary, "and", std::move(e), Not());
    return e;
  }

  ExpressionPtr Not() {
    const Deeper deeper(*this);
    if (SkipWord("not")) return Make(EK::kUnary, "not", Not());
    return Compare();
  }

  ExpressionPtr Compare() {
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

  ExpressionPtr Sum() {
    ExpressionPtr e = Concat();
    for (int chain = 0; Is("+") || Is("-"); Lengthen(chain)) {
      const std::string op = Take().text;
      e = Make(EK::kBinary, op, std::move(e), Concat());
    }
    return e;
  }

  ExpressionPtr Concat() {
    ExpressionPtr e = Product();
    if (!Is("~")) return e;
    e = Make(EK::kConcat, "", std::move(e));
    while (Skip("~")) e->parts.push_back(Product());
    return e;
  }

  ExpressionPtr Product() {
    ExpressionPtr e = Unary(true);
    for (int chain = 0; Is("*") || Is("//") || Is("%") || Is("/") || Is("**"); Lengthen(chain)) {
      const std::string op = Take().text;
      if (op == "/" || op == "**") Refuse(where_, Now().line, "an operator that is not supported", "", op);
      e = Make(EK::kBinary, op, std::move(e), Unary(true));
    }
    return e;
  }

  ExpressionPtr Unary(bool with_filters) {
    const Deeper deeper(*this);
    ExpressionPtr e;
    if (Skip("-")) {
      e = Make(EK::kUnary, "-", Unary(false));
    } else if (Skip("+")) {
      e = Unary(false);
    } else {
      e = Primary();
    }
    e = Postfix(std::move(e));
    return with_filters ? Filters(std::move(e)) : std::move(e);
  }

  ExpressionPtr Literal(Value value) const {
    ExpressionPtr e = Make(EK::kLiteral);
    e->literal = std::move(value);
    return e;
  }

  ExpressionPtr Primary() {
    if (Now().kind == Kind::kString) {
      std::string text = Take().text;
      while (Now().kind == Kind::kString) text += Take().text;
      return Literal(std::move(text));
    }
    if (Now().kind == Kind::kInteger) return Literal(static_cast<int64_t>(std::stoll(Take().text)));
    if (Now().kind == Kind::kName) {
      const std::string name = Take().text;
      if (name == "true" || name == "True") return Literal(true);
      if (name == "false" || name == "False") return Literal(false);
      if (name == "none" || name == "None") return Literal(nullptr);
      return Make(EK::kName, name);
    }
    if (Skip("[")) return Elements(Make(EK::kList), "]");
    if (Skip("{")) return Dict();
    if (!Skip("(")) Unexpected("an expression");
    if (Skip(")")) return Make(EK::kList);
    ExpressionPtr e = Condition();
    if (!Skip(",")) {
      Expect(")");
      return e;
    }
    return Elements(Make(EK::kList, "", std::move(e)), ")");  // a tuple: used as a list is
  }

  ExpressionPtr Elements(ExpressionPtr list, std::string_view end) {
    while (!Skip(end)) {
      list->parts.push_back(Condition());
      if (!Is(end)) Expect(",");
    }
    return list;
  }

  ExpressionPtr Dict() {
    ExpressionPtr dict = Make(EK::kDict);
    while (!Skip("}")) {
      dict->parts.push_back(Condition());
      Expect(":");
      dict->parts.push_back(Condition());
      if (!Is("}")) Expect(",");
    }
    return dict;
  }

  void Lengthen(int& chain) const {
    if (++chain > kMaxChain) Refuse(where_, Now().line, "nested too deeply");
  }

  ExpressionPtr Postfix(ExpressionPtr e) {
    for (int chain = 0;; Lengthen(chain)) {
      if (Skip(".")) {
        if (Now().kind == Kind::kInteger) {
          e = Make(EK::kItem, "", std::move(e), Primary());
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

  ExpressionPtr Subscript(ExpressionPtr e) {
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

  Arguments CallArguments() {
    Arguments arguments;
    Expect("(");
    while (!Skip(")")) {
      if (Now().kind == Kind::kName && Next().kind == Kind::kOperator && Next().text == "=") {
        const std::string name = Name();
        Take();
        arguments.named.emplace_back(name, Condition());
      } else if (arguments.named.empty()) {
        arguments.positional.push_back(Condition());
      } else {
        Unexpected("a named argument");
      }
      if (!Is(")")) Expect(",");
    }
    return arguments;
  }

  ExpressionPtr Filters(ExpressionPtr e) {
    for (int chain = 0;; Lengthen(chain)) {
      if (Skip("|")) {
        e = Make(EK::kFilter, Name(), std::move(e));
        if (Is("(")) e->arguments = CallArguments();
      } else if (SkipWord("is")) {
        const bool negated = SkipWord("not");
        e = Make(EK::kTest, Name(), std::move(e));
        TestArguments(e->arguments);
        if (negated) e = Make(EK::kUnary, "not", std::move(e));
      } else {
        return e;
      }
    }
  }

  void TestArguments(Arguments& arguments) {
    if (Is("(")) {
      arguments = CallArguments();
      return;
    }
    const Kind kind = Now().kind;
    const bool word = kind == Kind::kName && !IsWord("else") && !IsWord("or") && !IsWord("and");
    if (IsWord("is")) Refuse(where_, Now().line, "tests cannot be chained with is");
    if (word || kind == Kind::kString || kind == Kind::kInteger || Is("[") || Is("{")) {
      arguments.positional.push_back(Postfix(Primary()));
    }
  }

  const std::vector<Token> tokens_;
  const std::string& where_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

std::vector<Statement> Parse(std::string_view source, const std::string& where) { return Parser(source, where).Run(); }

}  // namespace taipan::jinja
