// Values as text: Python's str() and repr(), HTML escapes.

#include <charconv>
#include <cmath>

#include "base/error.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"

namespace taipan::jinja {
namespace {

using Kind = Sequence::Kind;

std::string ReprText(const std::string& text) {
  const bool single = text.find('\'') != text.npos, twice = text.find('"') != text.npos;
  const char quote = single && !twice ? '"' : '\'';
  std::string out(1, quote);
  for (const std::string_view character : Characters(text)) {
    const auto c = CodePoint(character);
    if (character == "\\" || (character.size() == 1 && character[0] == quote)) {
      out.append("\\").append(character);
    } else if (character == "\n" || character == "\r" || character == "\t") {
      out += character == "\n" ? "\\n" : character == "\r" ? "\\r" : "\\t";
    } else if (!c || IsOf(*c, CharacterClass::kPrintable)) {
      out += character;
    } else if (*c < 0x100) {
      out += fmt::format("\\x{:02x}", *c);
    } else if (*c < 0x10000) {
      out += fmt::format("\\u{:04x}", *c);
    } else {
      out += fmt::format("\\U{:08x}", *c);
    }
  }
  return out + quote;
}

class Writer {
 public:
  explicit Writer(Context& context) : context_(context) {}

  std::string Run(const Value& value) {
    Write(value);
    return std::move(out_);
  }

 private:
  void Add(std::string_view text) {
    context_.Reserve(out_.size() + text.size() > (size_t{1} << 20) ? out_.size() + text.size() : text.size());
    out_ += text;
  }

  void Write(const Value& value) {
    const Context::Deeper deeper(context_);
    if (value.is_string())
      return Add(value.safe() ? fmt::format("Markup({})", ReprText(value.text())) : ReprText(value.text()));
    if (value.is_none()) return Add("None");
    if (value.is_undefined()) return Add("Undefined");
    if (value.is_bool()) return Add(value.integer() != 0 ? "True" : "False");
    if (value.is_integer()) return Add(std::to_string(value.integer()));
    if (value.is_float()) return Add(ReprFloat(value.number()));
    if (value.is_dict()) return WriteDict(value.dict());
    if (value.is_sequence()) return WriteSequence(value.sequence());
    const std::optional<std::string> shown = value.object().Repr(context_);
    if (!shown) context_.Refuse("printing this type is not supported", "", std::string(value.object().type_name()));
    Add(*shown);
  }

  void WriteDict(const Dict& dict) {
    Add("{");
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      if (i > 0) Add(", ");
      Write(dict.entries[i].first);
      Add(": ");
      Write(dict.entries[i].second);
    }
    Add("}");
  }

  void WriteSequence(const Sequence& s) {
    if (s.kind == Kind::kRange) {
      return Add(s.step == 1 ? fmt::format("range({}, {})", s.start, s.stop)
                             : fmt::format("range({}, {}, {})", s.start, s.stop, s.step));
    }
    const bool tuple = s.kind == Kind::kTuple || s.kind == Kind::kGroup;
    const std::string_view view = s.kind == Kind::kKeys     ? "dict_keys(["
                                  : s.kind == Kind::kValues ? "dict_values(["
                                  : s.kind == Kind::kItems  ? "dict_items(["
                                                            : "";
    Add(tuple ? "(" : view.empty() ? "[" : view);
    for (size_t i = 0; i < s.items.size(); ++i) {
      if (i > 0) Add(", ");
      Write(s.items[i]);
    }
    if (tuple && s.items.size() == 1) Add(",");
    Add(tuple ? ")" : view.empty() ? "]" : "])");
  }

  Context& context_;
  std::string out_;
};

}  // namespace

std::string ReprFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32] = {};  // so that the exponent ends
  const char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view shown(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shown.find('e');
  const int exponent = std::atoi(buffer + e + 1);
  if (exponent < -4 || exponent >= 16) {
    return std::string(shown.substr(0, e)) + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  char plain[64];
  const char* stop = std::to_chars(plain, plain + sizeof plain, value, std::chars_format::fixed).ptr;
  std::string text(plain, static_cast<size_t>(stop - plain));
  return text.find('.') == text.npos ? text + ".0" : text;
}

std::string Str(const Value& value, Context& context) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return "";
  return Repr(value, context);
}

std::string Repr(const Value& value, Context& context) { return Writer(context).Run(value); }

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    static constexpr std::string_view kFrom = "&<>'\"";
    static constexpr std::string_view kTo[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const size_t found = kFrom.find(c);
    if (found == kFrom.npos) {
      out += c;
    } else {
      out += kTo[found];
    }
  }
  return out;
}

}  // namespace taipan::jinja
