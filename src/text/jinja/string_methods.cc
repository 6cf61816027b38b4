// The methods of str.

#include <algorithm>
#include <functional>
#include <limits>
#include <map>

#include "base/error.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

using std::string;
using std::string_view;

Value Strings(const std::vector<string>& parts, Context& context, bool tuple = false) {
  std::vector<Value> items;
  for (const string& part : parts) items.emplace_back(part);
  return List(std::move(items), context, tuple ? Sequence::Kind::kTuple : Sequence::Kind::kList);
}

Value Stripped(const string& text, Call& call) {
  const auto a = call.Bind({"chars"});
  const bool left = call.name != "rstrip", right = call.name != "lstrip";
  if (a[0] == nullptr || a[0]->is_none()) return Value(Strip(text, left, right));
  const string_view chars = call.Text(a[0]);
  call.context.Spend(text.size() + chars.size());
  return Value(Strip(text, left, right, &chars));
}

bool IsSpaceAt(string_view text, size_t at) {
  const auto c = CodePoint(text.substr(at, CharacterLength(text, at)));
  return c && IsPythonSpace(*c);
}

std::vector<string> SplitAtSpaces(string_view rest, int64_t most) {
  std::vector<string> parts;
  rest = Strip(rest, true, false);
  for (; !rest.empty() && most > 0; --most) {
    size_t end = 0;
    while (end < rest.size() && !IsSpaceAt(rest, end)) end += CharacterLength(rest, end);
    parts.emplace_back(rest.substr(0, end));
    rest = Strip(rest.substr(end), true, false);
  }
  if (!rest.empty()) parts.emplace_back(rest);
  return parts;
}

std::vector<string> SplitAtSpacesFromTheRight(string_view rest, int64_t most) {
  std::vector<string> parts;
  rest = Strip(rest, false, true);
  for (; !rest.empty() && most > 0; --most) {
    const std::vector<size_t> starts = CharacterStarts(rest);
    size_t i = starts.size() - 1;
    while (i > 0 && !IsSpaceAt(rest, starts[i - 1])) --i;
    parts.emplace_back(rest.substr(starts[i]));
    rest = Strip(rest.substr(0, starts[i]), false, true);
  }
  if (!rest.empty()) parts.emplace_back(rest);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value Split(const string& text, Call& call) {
  const auto a = call.Bind({"sep", "maxsplit"});
  const bool right = call.name == "rsplit";
  int64_t most = call.Integer(a[1], -1);
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  if (a[0] == nullptr || a[0]->is_none()) {
    if (right && most < 1000) call.context.Spend(text.size() * static_cast<size_t>(most));
    if (right && most >= 1000) return Strings(SplitAtSpaces(text, std::numeric_limits<int64_t>::max()), call.context);
    return Strings(right ? SplitAtSpacesFromTheRight(text, most) : SplitAtSpaces(text, most), call.context);
  }
  const string& separator = call.Text(a[0]);
  if (separator.empty()) call.Refuse("an empty separator");
  std::vector<string> parts;
  string_view rest = text;
  for (size_t found; most > 0 && (found = right ? rest.rfind(separator) : rest.find(separator)) != rest.npos; --most) {
    parts.emplace_back(right ? rest.substr(found + separator.size()) : rest.substr(0, found));
    rest = right ? rest.substr(0, found) : rest.substr(found + separator.size());
  }
  parts.emplace_back(rest);
  if (right) std::reverse(parts.begin(), parts.end());
  call.context.Spend(64 * parts.size());
  return Strings(parts, call.context);
}

string Replaced(const string& text, const string& from, const string& to, int64_t most, Context& context) {
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  string out;
  size_t at = 0;
  if (from.empty()) {  // before each character and at the end
    for (const string_view character : Characters(text)) {
      if (most-- > 0) out += to;
      out += character;
      if (out.size() > (size_t{1} << 20)) context.Reserve(out.size());
    }
    return most > 0 ? out + to : out;
  }
  for (size_t found; most > 0 && (found = text.find(from, at)) != text.npos; at = found + from.size(), --most) {
    out.append(text, at, found - at);
    out += to;
    context.Reserve(to.size() + 8);
    if (out.size() > (size_t{1} << 26)) context.Reserve(out.size());
  }
  return out.append(text, at);
}

// start and stop in characters, as find, count and startswith take them, to a part of the text.
struct Part {
  std::vector<size_t> starts;
  size_t begin = 0, end = 0;  // bytes
  bool none = false;          // start is after the end
};

Part PartOf(const string& text, const Value* start, const Value* stop, const Call& call) {
  Part part;
  part.starts = CharacterStarts(text);
  const auto size = static_cast<int64_t>(part.starts.size()) - 1;
  const auto bound = [&](const Value* value, int64_t otherwise) {
    if (value != nullptr && value->is_none()) value = nullptr;
    const int64_t i = call.Integer(value, otherwise);
    return std::max<int64_t>(i < 0 ? i + size : i, 0);
  };
  const int64_t begin = bound(start, 0), end = std::min(bound(stop, size), size);
  part.none = begin > end;
  if (part.none) return part;
  part.begin = part.starts[static_cast<size_t>(begin)];
  part.end = part.starts[static_cast<size_t>(end)];
  return part;
}

Value Found(const string& text, Call& call) {
  const auto a = call.Bind({"sub", "start", "end"}, 1);
  const string& sub = call.Text(a[0]);
  const Part part = PartOf(text, a[1], a[2], call);
  const string_view inside = part.none ? string_view() : string_view(text).substr(part.begin, part.end - part.begin);
  if (call.name == "count") {
    if (part.none) return Value(0);
    if (sub.empty()) return Value(static_cast<int64_t>(CountCharacters(inside)) + 1);
    int64_t count = 0;
    for (size_t at = 0; (at = inside.find(sub, at)) != inside.npos; at += sub.size()) ++count;
    return Value(count);
  }
  const size_t found = part.none ? string_view::npos : call.name[0] == 'r' ? inside.rfind(sub) : inside.find(sub);
  if (found == string_view::npos) {
    if (call.name.ends_with("index")) call.Refuse("the substring is not there");
    return Value(-1);
  }
  return Value(static_cast<int64_t>(CountCharacters(string_view(text).substr(0, part.begin + found))));
}

Value BeginsOrEnds(const string& text, Call& call) {
  const auto a = call.Bind({"prefix", "start", "end"}, 1);
  const Part part = PartOf(text, a[1], a[2], call);
  if (part.none) return Value(false);
  const string_view inside = string_view(text).substr(part.begin, part.end - part.begin);
  const auto matches = [&](const Value& one) {
    const string& affix = call.Text(&one);
    return call.name == "startswith" ? inside.starts_with(affix) : inside.ends_with(affix);
  };
  if (!a[0]->is_tuple()) return Value(matches(*a[0]));
  return Value(std::any_of(a[0]->items().begin(), a[0]->items().end(), matches));
}

Value Padded(const string& text, Call& call) {
  const bool zeros = call.name == "zfill";
  const auto a = zeros ? call.Bind({"width"}, 1) : call.Bind({"width", "fillchar"}, 1);
  const string fill = zeros ? "0" : call.Text(a[1], " ");
  if (CountCharacters(fill) != 1) call.Refuse("the fill character must be one character");
  const auto size = static_cast<int64_t>(CountCharacters(text));
  const int64_t missing = call.Integer(a[0]) - size;
  if (missing <= 0) return Value(text);
  call.context.Reserve(static_cast<size_t>(std::min<int64_t>(missing, int64_t{1} << 32)) * fill.size());
  int64_t left = call.name == "ljust" ? 0 : missing;
  if (call.name == "center") left = missing / 2 + (missing & call.Integer(a[0]) & 1);
  const bool sign = zeros && !text.empty() && (text[0] == '+' || text[0] == '-');
  string out = sign ? text.substr(0, 1) : "";
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += sign ? text.substr(1) : text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Value(std::move(out));
}

Value Partition(const string& text, Call& call) {
  const auto a = call.Bind({"sep"}, 1);
  const string& separator = call.Text(a[0]);
  if (separator.empty()) call.Refuse("an empty separator");
  const bool right = call.name == "rpartition";
  const size_t found = right ? text.rfind(separator) : text.find(separator);
  if (found == text.npos) {
    return Strings(right ? std::vector<string>{"", "", text} : std::vector<string>{text, "", ""}, call.context, true);
  }
  return Strings({text.substr(0, found), separator, text.substr(found + separator.size())}, call.context, true);
}

Value JoinedBy(const string& text, Call& call) {
  const auto a = call.Bind({"iterable"}, 1);
  string out;
  bool first = true;
  for (const Value& element : Elements(*a[0], call.context)) {
    if (!element.is_string()) call.Refuse("takes strings only", "", string(TypeName(element)));
    if (!std::exchange(first, false)) out += text;
    out += element.text();
    call.context.Reserve(element.text().size() + text.size());
    if (out.size() > (size_t{1} << 26)) call.context.Reserve(out.size());
  }
  return Value(std::move(out));
}

// isalpha and the like: all characters are of the class, and there is one.
bool All(const string& text, CharacterClass one) {
  const std::vector<string_view> all = Characters(text);
  return !all.empty() && std::all_of(all.begin(), all.end(), [&](string_view character) {
    const auto c = CodePoint(character);
    return c && IsOf(*c, one);
  });
}

// islower, isupper: a letter of this case, and none of another.
bool OnlyCase(const string& text, CharacterClass one) {
  bool any = false;
  for (const string_view character : Characters(text)) {
    const auto c = CodePoint(character);
    if (!c || !IsOf(*c, CharacterClass::kCased)) continue;
    if (!IsOf(*c, one)) return false;
    any = true;
  }
  return any;
}

bool IsTitle(const string& text) {
  bool any = false, inside = false;
  for (const string_view character : Characters(text)) {
    const auto c = CodePoint(character);
    const bool cased = c && IsOf(*c, CharacterClass::kCased);
    if (cased && inside == !IsOf(*c, CharacterClass::kLower)) return false;
    any |= cased;
    inside = cased;
  }
  return any;
}

bool IsSpace(const string& text) { return !text.empty() && Strip(text, true, false).empty(); }

string ExpandedTabs(const string& text, int64_t every, Context& context) {
  string out;
  int64_t column = 0;
  for (const string_view character : Characters(text)) {
    if (character == "\t") {
      const int64_t blanks = every > 0 ? every - column % every : 0;
      context.Reserve(static_cast<size_t>(blanks));
      out.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
    } else {
      out += character;
      column = character == "\n" || character == "\r" ? 0 : column + 1;
    }
  }
  return out;
}

using Method = std::function<Value(const string&, Call&)>;

Method OfText(string (*f)(string_view)) {
  return [f](const string& text, Call& call) {
    call.Bind({});
    return Value(f(text));
  };
}

template <class F>
Method OfTruth(F f) {
  return [f](const string& text, Call& call) {
    call.Bind({});
    return Value(static_cast<bool>(f(text)));
  };
}

Method OfClass(CharacterClass one) {
  return OfTruth([one](const string& text) { return All(text, one); });
}

Value Removed(const string& text, Call& call) {
  const auto a = call.Bind({"affix"}, 1);
  const string& affix = call.Text(a[0]);
  const bool prefix = call.name == "removeprefix";
  if (prefix ? !text.starts_with(affix) : !text.ends_with(affix)) return Value(text);
  return Value(prefix ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size()));
}

Value Lines(const string& text, Call& call) {
  const auto a = call.Bind({"keepends"});
  return Strings(SplitLines(text, call.Truth(a[0])), call.context);
}

Value ReplacedBy(const string& text, Call& call) {
  const auto a = call.Bind({"old", "new", "count"}, 2);
  return Value(Replaced(text, call.Text(a[0]), call.Text(a[1]), call.Integer(a[2], -1), call.context));
}

const std::map<string, Method, std::less<>>& Table() {
  static const std::map<string, Method, std::less<>> kTable = {
      {"strip", Stripped},
      {"lstrip", Stripped},
      {"rstrip", Stripped},
      {"split", Split},
      {"rsplit", Split},
      {"find", Found},
      {"rfind", Found},
      {"index", Found},
      {"rindex", Found},
      {"count", Found},
      {"startswith", BeginsOrEnds},
      {"endswith", BeginsOrEnds},
      {"center", Padded},
      {"ljust", Padded},
      {"rjust", Padded},
      {"zfill", Padded},
      {"partition", Partition},
      {"rpartition", Partition},
      {"join", JoinedBy},
      {"removeprefix", Removed},
      {"removesuffix", Removed},
      {"splitlines", Lines},
      {"replace", ReplacedBy},
      {"upper", OfText(Upper)},
      {"lower", OfText(Lower)},
      {"title", OfText(TitleCased)},
      {"capitalize", OfText(Capitalized)},
      {"swapcase", OfText(SwappedCase)},
      {"casefold", OfText(CaseFolded)},
      {"isalpha", OfClass(CharacterClass::kAlpha)},
      {"isdigit", OfClass(CharacterClass::kDigit)},
      {"isdecimal", OfClass(CharacterClass::kDecimal)},
      {"isnumeric", OfClass(CharacterClass::kNumeric)},
      {"isalnum", OfClass(CharacterClass::kAlnum)},
      {"isprintable", OfTruth([](const string& t) { return t.empty() || All(t, CharacterClass::kPrintable); })},
      {"isascii",
       OfTruth([](const string& t) { return std::all_of(t.begin(), t.end(), [](char c) { return c >= 0; }); })},
      {"islower", OfTruth([](const string& t) { return OnlyCase(t, CharacterClass::kLower); })},
      {"isupper", OfTruth([](const string& t) { return OnlyCase(t, CharacterClass::kUpper); })},
      {"istitle", OfTruth(IsTitle)},
      {"isspace", OfTruth(IsSpace)},
      {"expandtabs",
       [](const string& text, Call& call) {
         return Value(ExpandedTabs(text, call.Integer(call.Bind({"tabsize"})[0], 8), call.context));
       }},
      {"format", [](const string& text, Call& call) { return Value(BraceFormat(text, call)); }},
  };
  return kTable;
}

}  // namespace

Value CallStringMethod(const Value& self, Call& call) {
  call.context.Spend(self.text().size());
  const auto found = Table().find(call.name);
  if (found == Table().end()) call.context.Refuse("a method of str that is not supported", "", call.name);
  if (self.safe()) call.context.Refuse("a method of an escaped string is not supported", "", call.name);
  return found->second(self.text(), call);
}

}  // namespace taipan::jinja
