// "%s" % values, str.format and format specifications.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "text/jinja/methods.h"
#include "text/jinja/text.h"
#include "text/unicode/utf8.h"

namespace taipan::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > = ^
  char sign = '-';    // + - or a blank
  bool alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

std::string Padded(const std::string& sign, const std::string& body, const Spec& spec, char otherwise) {
  const auto size = static_cast<int64_t>(CountCharacters(sign) + CountCharacters(body));
  if (size >= spec.width) return sign + body;
  const auto repeat = [&](int64_t n) {
    std::string text;
    for (int64_t i = 0; i < n; ++i) text += spec.fill;
    return text;
  };
  const int64_t missing = spec.width - size;
  const char align = spec.align != '\0' ? spec.align : otherwise;
  if (align == '=') return sign + repeat(missing) + body;
  if (align == '<') return sign + body + repeat(missing);
  if (align == '>') return repeat(missing) + sign + body;
  return repeat(missing / 2) + sign + body + repeat(missing - missing / 2);
}

std::string Grouped(std::string digits, char by, size_t every) {
  const size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  for (size_t i = end; i > every; i -= every) digits.insert(i - every, 1, by);
  return digits;
}

std::string IntegerDigits(uint64_t magnitude, char type) {
  switch (type) {
    case 'x':
      return fmt::format("{:x}", magnitude);
    case 'X':
      return fmt::format("{:X}", magnitude);
    case 'o':
      return fmt::format("{:o}", magnitude);
    case 'b':
      return fmt::format("{:b}", magnitude);
    default:
      return std::to_string(magnitude);
  }
}

// `magnitude` >= 0.
std::string FloatDigits(double magnitude, const Spec& spec, Context& context) {
  if (std::isnan(magnitude) || std::isinf(magnitude)) {
    const std::string word = std::isnan(magnitude) ? "nan" : "inf";
    return spec.type >= 'A' && spec.type <= 'Z' ? Upper(word) : word;
  }
  const int64_t digits = spec.precision < 0 ? 6 : spec.precision;
  if (digits > 2000) context.Refuse("a precision is too large", "at most 2000", std::to_string(digits));
  const std::string head = spec.alternate ? "%#.*" : "%.*";
  if (spec.type == '%') return fmt::format("{:.{}f}%", magnitude * 100, digits);
  if (spec.type == '\0' && spec.precision < 0) return ReprFloat(magnitude);
  char buffer[2600];
  const char type = spec.type == '\0' || spec.type == 'n' ? 'g' : spec.type;
  const int size = std::snprintf(buffer, sizeof buffer, (head + type).c_str(), static_cast<int>(digits), magnitude);
  std::string text(buffer, static_cast<size_t>(size));
  if (spec.type == '\0' && text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

std::string SignOf(bool negative, char sign) { return negative ? "-" : sign == '-' ? "" : std::string(1, sign); }

std::string FormatNumber(const Value& value, Spec spec, Context& context) {
  static constexpr std::string_view kFloatTypes = "eEfFgG%";
  const bool as_float =
      value.is_float() || (spec.type != '\0' && kFloatTypes.find(spec.type) != std::string_view::npos);
  if (as_float) {
    const double number = value.number();
    std::string digits = FloatDigits(std::abs(number), spec, context);
    if (spec.grouping != '\0') digits = Grouped(digits, spec.grouping, 3);
    return Padded(SignOf(std::signbit(number) && !std::isnan(number), spec.sign), digits, spec, '>');
  }
  const int64_t number = value.integer();
  if (spec.type == 'c')
    return Padded("", EncodeUtf8(static_cast<uint32_t>(std::clamp<int64_t>(number, 0, 0x10FFFF))), spec, '<');
  if (spec.precision >= 0) context.Refuse("a precision does not go with a whole number");
  if (spec.type != '\0' && std::string_view("bdnoxX").find(spec.type) == std::string_view::npos) {
    context.Refuse("a format that does not go with a number", "", {spec.type});
  }
  const uint64_t magnitude = number < 0 ? ~static_cast<uint64_t>(number) + 1 : static_cast<uint64_t>(number);
  std::string digits = IntegerDigits(magnitude, spec.type);
  const bool decimal = spec.type == '\0' || spec.type == 'd' || spec.type == 'n';
  if (spec.grouping != '\0') digits = Grouped(digits, spec.grouping, decimal ? 3 : 4);
  std::string sign = SignOf(number < 0, spec.sign);
  if (spec.alternate && !decimal) sign += std::string("0") + spec.type;
  return Padded(sign, digits, spec, '>');
}

Spec ParseSpec(std::string_view text, Context& context) {
  Spec spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  const size_t first = text.empty() ? 0 : CharacterLength(text, 0);
  if (text.size() > first && is_align(text[first])) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    text.remove_prefix(first + 1);
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    text.remove_prefix(1);
  }
  const auto take = [&](std::string_view any) {
    if (text.empty() || any.find(text[0]) == any.npos) return '\0';
    const char c = text[0];
    text.remove_prefix(1);
    return c;
  };
  const auto number = [&] {
    int64_t n = -1;
    while (!text.empty() && text[0] >= '0' && text[0] <= '9')
      n = std::max<int64_t>(n, 0) * 10 + take("0123456789") - '0';
    if (n > kMaxWidth) context.Refuse("a width is too large");
    return n;
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != '\0';
  if (!text.empty() && text[0] == '0') {
    take("0");
    if (spec.align == '\0') {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
  }
  spec.width = std::max<int64_t>(number(), 0);
  spec.grouping = take(",_");
  if (take(".") != '\0') {
    spec.precision = number();
    if (spec.precision < 0) context.Refuse("a format has no precision after its point");
  }
  if (!text.empty()) spec.type = text[0];
  if (text.size() > 1) context.Refuse("a broken format", "", std::string(text));
  return spec;
}

std::string FirstCharacters(const std::string& text, int64_t count) {
  const std::vector<size_t> starts = CharacterStarts(text);
  return text.substr(0, starts[std::min(static_cast<size_t>(count), starts.size() - 1)]);
}

std::string FormatText(const std::string& text, Spec spec, Context& context) {
  if (spec.type != '\0' && spec.type != 's') context.Refuse("a format that does not go with a string", "", {spec.type});
  if (spec.align == '=') {
    if (spec.fill != "0") context.Refuse("the alignment = does not go with a string");
    spec.align = '<';
  }
  return Padded("", spec.precision >= 0 ? FirstCharacters(text, spec.precision) : text, spec, '<');
}

// The conversions of one "..." % values.
class Percent {
 public:
  Percent(const std::string& format, const Value& values, Context& context)
      : format_(format), values_(values), context_(context) {}

  std::string Run() {
    std::string out;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out += format_[at_++];
        continue;
      }
      ++at_;
      out += Conversion();
      context_.Reserve(out.size() > (1 << 20) ? out.size() : 16);
    }
    const size_t given = values_.is_tuple() ? values_.items().size() : 1;
    const bool any = values_.is_dict() || values_.is_list() || values_.is_undefined();
    if (next_ < given && !(any && next_ == 0)) context_.Refuse("not all arguments converted during string formatting");
    return out;
  }

 private:
  char Take() {
    if (at_ >= format_.size()) context_.Refuse("a % format is incomplete");
    return format_[at_++];
  }

  const Value& Next() {
    if (values_.is_tuple() && next_ < values_.items().size()) return values_.items()[next_++];
    if (values_.is_tuple() || next_ > 0) context_.Refuse("not enough arguments for a % format");
    ++next_;
    return values_;
  }

  int64_t Number(char& c) {
    int64_t n = 0;
    if (c == '*') {
      const Value& value = Next();
      if (!value.is_integer()) context_.Refuse("* wants a whole number");
      n = value.integer();
      c = Take();
    }
    for (; c >= '0' && c <= '9'; c = Take()) n = std::min<int64_t>(n * 10 + (c - '0'), kMaxWidth + 1);
    if (n > kMaxWidth || n < -kMaxWidth) context_.Refuse("a width is too large");
    return n;
  }

  std::string Conversion() {
    char c = Take();
    Value keyed;
    bool has_key = false;
    if (c == '(') {
      std::string key;
      for (int open = 1; (c = Take()) != ')' || --open > 0;) {
        open += c == '(';
        key += c;
      }
      if (!values_.is_dict()) context_.Refuse("a % format with names wants a mapping");
      const Value* found = values_.dict().Find("s" + key);
      if (found == nullptr) context_.Refuse("a % format names a key that is not there", "", key);
      keyed = *found;
      has_key = true;
      c = Take();
    }
    Spec spec;
    bool left = false, zero = false;
    for (; std::string_view("-+ #0").find(c) != std::string_view::npos; c = Take()) {
      left |= c == '-';
      zero |= c == '0';
      spec.alternate |= c == '#';
      if (c == '+' || (c == ' ' && spec.sign != '+')) spec.sign = c;
    }
    spec.width = Number(c);
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (c == '.') {
      c = Take();
      spec.precision = std::max<int64_t>(Number(c), 0);
    }
    while (c == 'h' || c == 'l' || c == 'L') c = Take();
    if (c == '%') return "%";
    spec.align = left ? '<' : '>';
    return Converted(has_key ? keyed : Next(), c, spec, zero && !left);
  }

  std::string Converted(const Value& value, char type, Spec spec, bool zero) {
    if (type == 's' || type == 'r' || type == 'a') {
      if (type == 'a') context_.Refuse("the format %a is not supported");
      const std::string text = type == 's' ? Str(value, context_) : Repr(value, context_);
      return Padded("", spec.precision >= 0 ? FirstCharacters(text, spec.precision) : text, spec, '>');
    }
    if (type == 'c') {
      if (value.is_string() && CountCharacters(value.text()) == 1) return Padded("", value.text(), spec, '>');
      if (!value.is_integer()) context_.Refuse("%c wants one character or a number");
      spec.type = 'c';
      return FormatNumber(value, spec, context_);
    }
    if (zero) {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    if (value.is_undefined()) context_.RefuseUndefined(value);
    if (!value.is_number()) {
      context_.Refuse(fmt::format("the format %{} wants a number", type), "", std::string(TypeName(value)));
    }
    if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
      spec.type = type;
      return FormatNumber(Value(value.number()), spec, context_);
    }
    if (std::string_view("diuxXo").find(type) == std::string_view::npos) {
      context_.Refuse("an unknown % format", "", {type});
    }
    return Integer(value, type, spec);
  }

  std::string Integer(const Value& value, char type, const Spec& spec) {
    if (value.is_float() && type != 'd' && type != 'i' && type != 'u') {
      context_.Refuse(fmt::format("the format %{} wants a whole number", type));
    }
    if (value.is_float() && !(std::abs(value.number()) < 9e18)) context_.Refuse("a whole number is too large");
    const int64_t number = value.is_float() ? static_cast<int64_t>(value.number()) : value.integer();
    const uint64_t magnitude = number < 0 ? ~static_cast<uint64_t>(number) + 1 : static_cast<uint64_t>(number);
    std::string digits = IntegerDigits(magnitude, type);
    while (static_cast<int64_t>(digits.size()) < spec.precision) digits.insert(0, 1, '0');
    std::string sign = SignOf(number < 0, spec.sign);
    if (spec.alternate && (type == 'x' || type == 'X' || type == 'o')) sign += std::string("0") + type;
    return Padded(sign, digits, spec, '>');
  }

  const std::string& format_;
  const Value& values_;
  Context& context_;
  size_t at_ = 0, next_ = 0;
};

}  // namespace

Value PercentFormat(const Value& format, const Value& values, Context& context) {
  if (format.safe()) context.Refuse("% of an escaped string is not supported");
  context.Spend(format.text().size());
  return Value(Percent(format.text(), values, context).Run());
}

std::string FormatValue(const Value& value, const std::string& text, Context& context) {
  if (text.empty()) return Str(value, context);
  const Spec spec = ParseSpec(text, context);
  if (value.is_string()) return FormatText(value.text(), spec, context);
  if (value.is_number() && !(value.is_bool() && spec.type == 's')) return FormatNumber(value, spec, context);
  context.Refuse(fmt::format("a format specification does not go with the type {}", TypeName(value)), "", text);
}

}  // namespace taipan::jinja
