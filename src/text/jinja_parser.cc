// Tokens to a tree: the statements.

#include "base/error.h"
#include "text/jinja_expressions.h"

namespace taipan::jinja {
namespace {

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  std::vector<Statement> Run() {
    std::vector<Statement> all = Body({});
    if (Now().kind != Token::Kind::kEnd) Unexpected("text or a statement");
    return all;
  }

 private:
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

  int loops_ = 0;
};

}  // namespace

std::vector<Statement> Parse(std::string_view source, const std::string& where) { return Parser(source, where).Run(); }

}  // namespace taipan::jinja
