#pragma once
// What a Jinja template says, as a tree: written by jinja_parser.cc, walked by jinja_render.cc.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace taipan::jinja {

// A value of the template language; a discarded value is Jinja's Undefined.
using Value = nlohmann::ordered_json;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};

struct Expression {
  enum class Kind {
    kLiteral,    // literal
    kName,       // name
    kList,       // parts
    kDict,       // parts: key, value, key, value ...
    kAttribute,  // parts[0].name
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]], null where left out
    kCall,       // parts[0](arguments)
    kFilter,     // parts[0] | name(arguments)
    kTest,       // parts[0] is name(arguments)
    kUnary,      // name: "not", "-"
    kBinary,     // name: "and", "or", "+", "-", "*", "//", "%"
    kConcat,     // the text of all parts
    kCompare,    // parts[0] operators[0] parts[1] operators[1] parts[2] ...
    kChoice,     // parts[0] if parts[1] else parts[2]; parts[2] may be null
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  std::string name;
  Value literal;
  std::vector<ExpressionPtr> parts;
  std::vector<std::string> operators;
  Arguments arguments;
};

struct Statement {
  enum class Kind { kText, kPrint, kIf, kFor, kSet, kSetAttribute, kSetBlock, kMacro, kScope, kBreak, kContinue };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text;                     // kText; kMacro: its name; kSetAttribute: the attribute
  std::vector<std::string> names;       // targets of for and set, parameters of a macro
  ExpressionPtr value;                  // printed, assigned, iterated, or the condition of an if
  ExpressionPtr condition;              // of a for
  std::vector<ExpressionPtr> defaults;  // of a macro's last parameters
  std::vector<Statement> body, otherwise;
};

// UserError (where: `where`) for text that is not Jinja, and for a statement outside of the subset, by its name.
std::vector<Statement> Parse(std::string_view source, const std::string& where);

struct Token {
  enum class Kind { kText, kPrintBegin, kPrintEnd, kBlockBegin, kBlockEnd, kName, kString, kInteger, kOperator, kEnd };
  Kind kind;
  std::string text;
  int line;
};

// With trim_blocks and lstrip_blocks, as Hugging Face sets them for chat templates.
std::vector<Token> Tokenize(std::string_view source, const std::string& where);

// A Python str method works on code points; so do these.
bool IsPythonSpace(uint32_t code_point);
// Without white space (chars == null) or any of the characters of `chars`, on the sides asked for.
std::string_view Strip(std::string_view text, bool left, bool right, const std::string_view* chars = nullptr);
// Length in bytes of the character at text[at]; a byte that is no valid start counts as one.
size_t CharacterLength(std::string_view text, size_t at);

[[noreturn]] void Refuse(const std::string& where, int line, const std::string& problem,
                         const std::string& expected = "", const std::string& found = "");

}  // namespace taipan::jinja
