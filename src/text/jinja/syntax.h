#pragma once
// What a Jinja template says, as a tree: written by parser.cc, walked by render.cc.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace taipan::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  // *these, **these
};

struct Expression {
  enum class Kind {
    kLiteral,    // literal
    kRefused,    // name: what is not supported, said when it is reached
    kName,       // name
    kList,       // parts
    kTuple,      // parts
    kDict,       // parts: key, value, key, value ...
    kAttribute,  // parts[0].name
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]], null where left out
    kCall,       // parts[0](arguments)
    kFilter,     // parts[0] | name(arguments); null: the text of the block around it
    kTest,       // parts[0] is name(arguments)
    kUnary,      // name: "not", "-", "+"
    kBinary,     // name: "and", "or", "+", "-", "*", "/", "//", "%", "**"
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

// What is assigned to: a name, a namespace's attribute, or several of these at once.
struct Target {
  std::string name, attribute;
  std::vector<Target> parts;
  bool several = false;
};

// A macro's, or that of the text that a call block gives.
struct Signature {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

struct Statement {
  enum class Kind {
    kText,         // text
    kPrint,        // value
    kIf,           // value, body, otherwise
    kFor,          // targets[0] in value if condition, body, otherwise; recursive
    kSet,          // targets[0] = value
    kSetBlock,     // targets[0] = body, through value where there are filters
    kMacro,        // signature, body
    kCallBlock,    // value is the call, signature and body its caller
    kFilterBlock,  // body through value
    kWith,         // targets = values, body
    kScope,        // body
    kBreak,
    kContinue,
    kRefused,  // text: what is not supported, said when it is reached
  };
  Kind kind = Kind::kText;
  int line = 0;
  bool recursive = false;
  std::string text;
  std::vector<Target> targets;
  ExpressionPtr value, condition;
  std::vector<ExpressionPtr> values;
  Signature signature;
  std::vector<Statement> body, otherwise;
};

// UserError (where: `where`) for text that is not Jinja.
std::vector<Statement> Parse(std::string_view source, const std::string& where);

struct Token {
  enum class Kind {
    kText,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kRefused,  // a string that is not supported; text: why
    kOperator,
    kEnd
  };
  Kind kind;
  std::string text;
  int line;
};

// With trim_blocks and lstrip_blocks, as transformers sets them for chat templates.
std::vector<Token> Tokenize(std::string_view source, const std::string& where);

[[noreturn]] void Refuse(const std::string& where, int line, const std::string& problem,
                         const std::string& expected = "", const std::string& found = "");

}  // namespace taipan::jinja
