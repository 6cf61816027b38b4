// Filters that give text.

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/json.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

using std::string;
using std::string_view;

// A filter that changes a text and keeps its mark of being safe.
template <string (*kChange)(string_view)>
Value Changed(const Value& input, Call& call) {
  call.Bind({});
  const string text = Str(input, call.context);
  call.context.Spend(text.size());
  return Value(kChange(text), input.safe());
}

// Jinja's own words for title: after blanks, - and opening brackets.
string TitleOfWords(string_view text) {
  string out, word;
  const auto finish = [&] {
    const size_t first = word.empty() ? 0 : CharacterLength(word, 0);
    out += Upper(string_view(word).substr(0, first)) + Lower(string_view(word).substr(first));
    word.clear();
  };
  for (const string_view character : Characters(text)) {
    const auto c = CodePoint(character);
    const bool opens = character.size() == 1 && string_view("-({[<").find(character[0]) != string_view::npos;
    if (opens || (c && IsPythonSpace(*c))) {
      finish();
      out += character;
    } else {
      word += character;
    }
  }
  finish();
  return out;
}

Value Trim(const Value& input, Call& call) {
  const auto a = call.Bind({"chars"});
  const string text = Str(input, call.context);
  call.context.Spend(text.size());
  if (a[0] == nullptr || a[0]->is_none()) return Value(string(Strip(text, true, true)), input.safe());
  const string_view chars = call.Text(a[0]);
  return Value(string(Strip(text, true, true, &chars)), input.safe());
}

Value Replace(const Value& input, Call& call) {
  const auto a = call.Bind({"old", "new", "count"}, 2);
  Context& context = call.context;
  Call method{context, "replace", {Value(Str(*a[0], context)), Value(Str(*a[1], context))}};
  if (a[2] != nullptr && !a[2]->is_none()) method.positional.push_back(*a[2]);
  return CallStringMethod(Value(Str(input, context)), method);
}

Value Center(const Value& input, Call& call) {
  const auto a = call.Bind({"width"});
  Call method{call.context, "center", {Value(call.Integer(a[0], 80))}};
  return CallStringMethod(Value(Str(input, call.context)), method);
}

Value Indent(const Value& input, Call& call) {
  const auto a = call.Bind({"width", "first", "blank"});
  Context& context = call.context;
  if (input.is_undefined()) context.RefuseUndefined(input);
  if (!input.is_string()) call.Refuse("takes a string", "", string(TypeName(input)));
  string by;
  if (a[0] != nullptr && a[0]->is_string()) {
    by = a[0]->text();
  } else {
    const auto width = static_cast<size_t>(std::max<int64_t>(call.Integer(a[0], 4), 0));
    context.Reserve(width);
    by = string(width, ' ');
  }
  const std::vector<string> lines = SplitLines(input.text() + "\n", false);
  context.Reserve(lines.size() * by.size() + input.text().size());
  string out = call.Truth(a[1]) ? by : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (!lines[i].empty() || call.Truth(a[2]))) out += by;
    out += lines[i];
  }
  return Value(std::move(out), input.safe());
}

Value Truncate(const Value& input, Call& call) {
  const auto a = call.Bind({"length", "killwords", "end", "leeway"});
  const int64_t length = call.Integer(a[0], 255);
  const string end = call.Text(a[2], "...");
  const auto end_length = static_cast<int64_t>(CountCharacters(end));
  const int64_t leeway = a[3] != nullptr && !a[3]->is_none() ? call.Integer(a[3]) : 5;
  if (length < end_length || leeway < 0) call.Refuse("a length that is too small");
  if (Length(input, call.context) <= length + leeway) return input;
  if (!input.is_string()) call.Refuse("takes a string", "", string(TypeName(input)));
  const std::vector<size_t> starts = CharacterStarts(input.text());
  string kept = input.text().substr(0, starts[static_cast<size_t>(length - end_length)]);
  if (!call.Truth(a[1])) kept = kept.substr(0, kept.rfind(' '));
  return Value(kept + end);
}

Value WordCount(const Value& input, Call& call) {
  call.Bind({});
  int64_t count = 0;
  bool inside = false;
  const string text = Str(input, call.context);
  call.context.Spend(text.size());
  for (const string_view character : Characters(text)) {
    const auto c = CodePoint(character);
    const bool word = character == "_" || (c && IsOf(*c, CharacterClass::kAlnum));
    count += word && !inside;
    inside = word;
  }
  return Value(count);
}

Value ToString(const Value& input, Call& call) {
  call.Bind({});
  return input.is_string() ? input : Value(Str(input, call.context));
}

Value Safe(const Value& input, Call& call) {
  call.Bind({});
  return Value(Str(input, call.context), true);
}

Value Escape(const Value& input, Call& call) {
  call.Bind({});
  if (input.safe() && call.name != "forceescape") return input;
  const string text = Str(input, call.context);
  call.context.Reserve(text.size());
  return Value(Escaped(text), true);
}

Value Format(const Value& input, Call& call) {
  if (!call.positional.empty() && !call.named.empty()) call.Refuse("takes either named arguments or others");
  const Value format(Str(input, call.context));
  if (call.named.empty()) return PercentFormat(format, Tuple(call.positional, call.context), call.context);
  DictMaker dict(call.context);
  for (const auto& [key, value] : call.named) dict.Set(Value(key), value);
  return PercentFormat(format, dict.Done(), call.context);
}

string Quoted(const string& text, bool for_query) {
  string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       string_view("_.-~").find(c) != string_view::npos || (c == '/' && !for_query);
    if (plain) {
      out += c;
    } else if (c == ' ' && for_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<uint8_t>(c));
    }
  }
  return out;
}

Value UrlEncode(const Value& input, Call& call) {
  call.Bind({});
  Context& context = call.context;
  if (input.is_string() || !IsIterable(input)) return Value(Quoted(Str(input, context), false));
  std::vector<std::pair<Value, Value>> pairs;
  if (input.is_dict()) {
    pairs = input.dict().entries;
  } else {
    for (const Value& pair : Elements(input, context)) {
      const std::vector<Value> parts = Elements(pair, context);
      if (parts.size() != 2) call.Refuse("takes a string, a dict or pairs");
      pairs.emplace_back(parts[0], parts[1]);
    }
  }
  string out;
  for (const auto& [key, value] : pairs) {
    const string name = Quoted(Str(key, context), true), text = Quoted(Str(value, context), true);
    out += fmt::format("{}{}={}", out.empty() ? "" : "&", name, text);
  }
  return Value(std::move(out));
}

Value XmlAttributes(const Value& input, Call& call) {
  const auto a = call.Bind({"autospace"});
  if (!input.is_dict()) call.Refuse("takes a dict", "", string(TypeName(input)));
  string out;
  for (const auto& [key, value] : input.dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    const string name = call.Text(&key), text = Str(value, call.context);
    if (name.find_first_of(" \t\n\r\f\v/>=") != name.npos) call.Refuse("a name of an attribute is broken", "", name);
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : " ", Escaped(name), value.safe() ? text : Escaped(text));
  }
  if (!out.empty() && call.Truth(a[0], true)) out = " " + out;
  return Value(std::move(out));
}

Value FileSize(const Value& input, Call& call) {
  const auto a = call.Bind({"binary"});
  if (!input.is_number()) call.Refuse("takes a number", "", string(TypeName(input)));
  const bool binary = call.Truth(a[0]);
  const double bytes = input.number(), base = binary ? 1024 : 1000;
  if (bytes == 1) return Value("1 Byte");
  if (bytes < base) return Value(fmt::format("{} Bytes", static_cast<int64_t>(bytes)));
  double unit = base;
  string_view prefixes = "kMGTPEZY";
  for (; prefixes.size() > 1 && bytes >= unit * base; prefixes.remove_prefix(1)) unit *= base;
  const char prefix = binary && prefixes[0] == 'k' ? 'K' : prefixes[0];
  return Value(fmt::format("{:.1f} {}{}", bytes / unit, prefix, binary ? "iB" : "B"));
}

Value ToJson(const Value& input, Call& call) {
  const auto a = call.Bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = call.Truth(a[0]);
  style.sort_keys = call.Truth(a[3]);
  if (a[1] != nullptr && !a[1]->is_none()) {
    if (a[1]->is_string()) {
      style.indent = a[1]->text();
    } else {
      const auto width = static_cast<size_t>(std::max<int64_t>(call.Integer(a[1]), 0));
      call.context.Reserve(width);
      style.indent = string(width, ' ');
    }
    style.comma = ",";
  }
  if (a[2] != nullptr && !a[2]->is_none()) {
    const std::vector<Value> two = Elements(*a[2], call.context);
    if (two.size() != 2) call.Refuse("separators are two strings");
    style.comma = call.Text(&two[0]);
    style.colon = call.Text(&two[1]);
  }
  return Value(WriteJson(input, style, call.context));
}

}  // namespace

const FilterTable& TextFilters() {
  static const FilterTable kTable = {
      {"upper", Changed<Upper>},
      {"lower", Changed<Lower>},
      {"capitalize", Changed<Capitalized>},
      {"title", [](const Value& input, Call& call) { return Value(Changed<TitleOfWords>(input, call).text()); }},
      {"trim", Trim},
      {"replace", Replace},
      {"center", Center},
      {"indent", Indent},
      {"truncate", Truncate},
      {"wordcount", WordCount},
      {"string", ToString},
      {"safe", Safe},
      {"escape", Escape},
      {"e", Escape},
      {"forceescape", Escape},
      {"format", Format},
      {"urlencode", UrlEncode},
      {"xmlattr", XmlAttributes},
      {"filesizeformat", FileSize},
      {"tojson", ToJson},
  };
  return kTable;
}

}  // namespace taipan::jinja
