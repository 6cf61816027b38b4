// Tokens to a tree: the statements.

#include "base/error.h"
#include "text/jinja/expressions.h"

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
  using SK = Statement::Kind;

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
        s.kind = SK::kPrint;
        s.value = Tuple();
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

  void CloseTag() { ExpectKind(Kind::kBlockEnd, "%}"); }

  // The rest of a tag, and all up to the tag `end`.
  std::vector<Statement> BodyUpTo(std::string_view end) {
    Skip(":");
    CloseTag();
    std::vector<Statement> body = Body({end});
    if (!SkipWord(end)) Unexpected(std::string(end));
    if (end == "endblock" && Now().kind == Kind::kName) Take();  // the block's name again
    CloseTag();
    return body;
  }

  // The same for what becomes a function of its own: no loop goes on inside of it.
  std::vector<Statement> FunctionBody(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    std::vector<Statement> body = BodyUpTo(end);
    loops_ = loops;
    return body;
  }

  Statement Tag() {
    using Parse = Statement (Parser::*)();
    static constexpr std::pair<std::string_view, Parse> kTags[] = {
        {"if", &Parser::If},
        {"for", &Parser::For},
        {"set", &Parser::Set},
        {"macro", &Parser::Macro},
        {"call", &Parser::CallBlock},
        {"filter", &Parser::FilterBlock},
        {"with", &Parser::With},
        {"print", &Parser::Print},
        {"generation", &Parser::Generation},
        {"block", &Parser::Block},
        {"autoescape", &Parser::AutoEscape},
    };
    const int line = Now().line;
    const std::string word = Name();
    for (const auto& [name, parse] : kTags) {
      if (word != name) continue;
      Statement s = (this->*parse)();
      s.line = line;
      return s;
    }
    Statement s;
    s.line = line;
    if (word == "break" || word == "continue") {
      if (loops_ == 0) Refuse(where_, line, word + " outside of a loop");
      s.kind = word == "break" ? SK::kBreak : SK::kContinue;
      CloseTag();
      return s;
    }
    if (word != "include" && word != "import" && word != "from" && word != "extends") {
      Refuse(where_, line, "an unknown tag", "a statement of Jinja or the end of an open one", word);
    }
    s.kind = SK::kRefused;
    s.text = word;
    while (Now().kind != Kind::kBlockEnd && Now().kind != Kind::kEnd) Take();
    CloseTag();
    return s;
  }

  Statement If() {
    Statement s;
    Statement* branch = &s;
    for (int branches = 0;; ++branches) {
      if (branches > kMaxBranches) Refuse(where_, Now().line, "an if with too many branches");
      branch->kind = SK::kIf;
      branch->line = Now().line;
      branch->value = Tuple(/*with_choice=*/false);
      Skip(":");
      CloseTag();
      branch->body = Body({"elif", "else", "endif"});
      if (!SkipWord("elif")) break;
      branch->otherwise.emplace_back();
      branch = &branch->otherwise.back();
    }
    if (SkipWord("else")) {
      Skip(":");
      CloseTag();
      branch->otherwise = Body({"endif"});
    }
    if (!SkipWord("endif")) Unexpected("endif");
    CloseTag();
    return s;
  }

  // ---- targets

  Target OneTarget(bool with_attribute) {
    const Deeper deeper(*this);
    if (Skip("(")) {
      Target target = Targets(with_attribute);
      Expect(")");
      return target;
    }
    Target target;
    const int line = Now().line;
    target.name = Name();
    static constexpr std::string_view kFixed[] = {"true", "True", "false", "False", "none", "None"};
    for (const std::string_view fixed : kFixed) {
      if (target.name == fixed) Refuse(where_, line, "cannot be assigned to", "a name", target.name);
    }
    if (with_attribute && Skip(".")) target.attribute = Name();
    return target;
  }

  Target Targets(bool with_attribute) {
    Target first = OneTarget(with_attribute);
    if (!Is(",")) return first;
    Target all;
    all.several = true;
    all.parts.push_back(std::move(first));
    while (Skip(",")) {
      if (Now().kind != Kind::kName && !Is("(")) break;
      if (IsWord("in")) break;
      all.parts.push_back(OneTarget(with_attribute));
    }
    return all;
  }

  // ---- statements

  Statement For() {
    Statement s;
    s.kind = SK::kFor;
    s.targets.push_back(Targets(false));
    if (!SkipWord("in")) Unexpected("in");
    s.value = Tuple(/*with_choice=*/false);
    if (SkipWord("if")) s.condition = Condition();
    s.recursive = SkipWord("recursive");
    Skip(":");
    CloseTag();
    ++loops_;
    s.body = Body({"else", "endfor"});
    --loops_;
    if (SkipWord("else")) {
      Skip(":");
      CloseTag();
      s.otherwise = Body({"endfor"});
    }
    if (!SkipWord("endfor")) Unexpected("endfor");
    CloseTag();
    return s;
  }

  Statement Set() {
    Statement s;
    s.targets.push_back(Targets(true));
    if (Skip("=")) {
      s.kind = SK::kSet;
      s.value = Tuple();
      CloseTag();
      return s;
    }
    s.kind = SK::kSetBlock;
    if (Is("|")) s.value = FilterChain(nullptr);
    if (Now().kind != Kind::kBlockEnd) Unexpected("=");
    s.body = BodyUpTo("endset");
    return s;
  }

  void Parameters(Signature& signature) {
    Expect("(");
    while (!Skip(")")) {
      if (!signature.parameters.empty()) Expect(",");
      signature.parameters.push_back(Name());
      if (Skip("=")) {
        signature.defaults.push_back(Condition());
      } else if (!signature.defaults.empty()) {
        Unexpected("a default");
      }
    }
  }

  // Which of the extra arguments the body looks at decides which ones a macro takes.
  void FunctionOf(Statement& s, std::string_view end) {
    std::set<std::string> names;
    named_.push_back(&names);
    s.body = FunctionBody(end);
    named_.pop_back();
    s.signature.uses_caller = names.count("caller") != 0;
    s.signature.uses_kwargs = names.count("kwargs") != 0;
    s.signature.uses_varargs = names.count("varargs") != 0;
  }

  Statement Macro() {
    Statement s;
    s.kind = SK::kMacro;
    s.signature.name = Name();
    Parameters(s.signature);
    FunctionOf(s, "endmacro");
    return s;
  }

  Statement CallBlock() {
    Statement s;
    s.kind = SK::kCallBlock;
    s.signature.name = "caller";
    if (Is("(")) Parameters(s.signature);
    s.value = Condition();
    if (s.value->kind != Expression::Kind::kCall) Unexpected("a call");
    FunctionOf(s, "endcall");
    return s;
  }

  Statement FilterBlock() {
    Statement s;
    s.kind = SK::kFilterBlock;
    s.value = FilterChain(OneFilter(nullptr));
    s.body = BodyUpTo("endfilter");
    return s;
  }

  Statement With() {
    Statement s;
    s.kind = SK::kWith;
    while (Now().kind != Kind::kBlockEnd) {
      if (!s.targets.empty()) Expect(",");
      s.targets.push_back(Targets(false));
      Expect("=");
      s.values.push_back(Condition());
    }
    s.body = BodyUpTo("endwith");
    return s;
  }

  Statement Print() {
    Statement s;
    s.kind = SK::kScope;
    while (Now().kind != Kind::kBlockEnd) {
      if (!s.body.empty()) Expect(",");
      Statement one;
      one.kind = SK::kPrint;
      one.line = Now().line;
      one.value = Condition();
      s.body.push_back(std::move(one));
    }
    CloseTag();
    return s;
  }

  // The mark of transformers around the assistant's words; it prints nothing itself.
  Statement Generation() {
    Statement s;
    s.kind = SK::kScope;
    s.body = FunctionBody("endgeneration");
    return s;
  }

  Statement Block() {
    Statement s;
    s.kind = SK::kScope;
    Name();
    SkipWord("scoped");
    SkipWord("required");
    s.body = FunctionBody("endblock");
    return s;
  }

  Statement AutoEscape() {
    Statement s;
    s.kind = SK::kScope;
    Statement check;
    check.kind = SK::kIf;
    check.line = Now().line;
    check.value = Condition();
    check.body.emplace_back();
    check.body.back().kind = SK::kRefused;
    check.body.back().line = check.line;
    check.body.back().text = "autoescape true";
    s.body.push_back(std::move(check));
    std::vector<Statement> body = BodyUpTo("endautoescape");
    for (Statement& one : body) s.body.push_back(std::move(one));
    return s;
  }

  static constexpr int kMaxBranches = 200;
  int loops_ = 0;
};

}  // namespace

std::vector<Statement> Parse(std::string_view source, const std::string& where) { return Parser(source, where).Run(); }

}  // namespace taipan::jinja
