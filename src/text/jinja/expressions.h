#pragma once
// Tokens of a template to expressions, with Jinja's precedences (which are not Python's: `~` binds closer than `+`,
// tests and filters closer than any operator).

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/syntax.h"

namespace taipan::jinja {

class ExpressionParser {
 public:
  ExpressionParser(std::string_view source, const std::string& where)
      : where_(where), tokens_(Tokenize(source, where)) {}

 protected:
  using Kind = Token::Kind;

  const Token& Now() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& Take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }

  [[noreturn]] void Unexpected(const std::string& expected) const;

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

  struct Deeper {  // while it lives, the nesting is one deeper
    explicit Deeper(ExpressionParser& p);
    ~Deeper() { --parser.depth_; }
    ExpressionParser& parser;
  };

  // Any expression.
  ExpressionPtr Condition();
  // Any but `a if b else c`.
  ExpressionPtr Or();
  // One, or a tuple of several without brackets.
  ExpressionPtr Tuple(bool with_choice = true);
  // | a | b(c), after `input`.
  ExpressionPtr FilterChain(ExpressionPtr input);
  ExpressionPtr OneFilter(ExpressionPtr input);

  const std::string& where_;
  int depth_ = 0;
  std::vector<std::set<std::string>*> named_;  // each gets the names that are read

 private:
  using EK = Expression::Kind;

  ExpressionPtr Make(Expression::Kind kind, std::string name = "") const;
  ExpressionPtr Make(Expression::Kind kind, std::string name, ExpressionPtr first,
                     ExpressionPtr second = nullptr) const;
  ExpressionPtr And();
  ExpressionPtr Not();
  ExpressionPtr Compare();
  ExpressionPtr Sum();
  ExpressionPtr Concat();
  ExpressionPtr Product();
  ExpressionPtr Power();
  ExpressionPtr Unary(bool with_filters);
  ExpressionPtr Literal(Value value) const;
  ExpressionPtr Number();
  ExpressionPtr Text();
  ExpressionPtr Primary();
  ExpressionPtr Elements(ExpressionPtr list, std::string_view end);
  ExpressionPtr Dict();
  void Lengthen(int& chain) const;
  ExpressionPtr Postfix(ExpressionPtr e);
  ExpressionPtr Subscript(ExpressionPtr e);
  Arguments CallArguments();
  ExpressionPtr Filters(ExpressionPtr e);
  std::string DottedName();
  void TestArguments(Arguments& arguments);

  const std::vector<Token> tokens_;
  size_t at_ = 0;
};

}  // namespace taipan::jinja
