// Filters of numbers.

#include <cmath>

#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/text.h"

namespace taipan::jinja {
namespace {

void RequireNumber(const Value& input, const Call& call) {
  if (input.is_undefined()) call.context.RefuseUndefined(input);
  if (!input.is_number()) call.Refuse("takes a number", "", std::string(TypeName(input)));
}

Value FromFloat(double d, Context& context) {
  if (!(std::abs(d) < 9.2e18)) context.Refuse("a whole number is too large", "at most 64 bits", ReprFloat(d));
  return Value(static_cast<int64_t>(d));
}

Value Int(const Value& input, Call& call) {
  const auto a = call.Bind({"default", "base"});
  const Value otherwise = a[0] != nullptr ? *a[0] : Value(0);
  const int64_t base = call.Integer(a[1], 10);
  if (input.is_undefined()) call.context.RefuseUndefined(input);
  if (input.is_integer()) return Value(input.integer());
  if (input.is_float()) return std::isnan(input.number()) ? otherwise : FromFloat(input.number(), call.context);
  if (!input.is_string()) return otherwise;
  if (base == 0 || (base >= 2 && base <= 36)) {
    const ParsedInteger parsed = ParseInteger(input.text(), base);
    if (parsed.value) return Value(*parsed.value);
    if (parsed.too_large) call.Refuse("a whole number is too large", "at most 64 bits", input.text());
  }
  const auto number = ParseFloat(input.text());
  if (!number || !std::isfinite(*number)) return otherwise;
  return FromFloat(*number, call.context);
}

Value Float(const Value& input, Call& call) {
  const auto a = call.Bind({"default"});
  if (input.is_undefined()) call.context.RefuseUndefined(input);
  if (input.is_number()) return Value(input.number());
  const auto number = input.is_string() ? ParseFloat(input.text()) : std::nullopt;
  return number ? Value(*number) : a[0] != nullptr ? *a[0] : Value(0.0);
}

Value Abs(const Value& input, Call& call) {
  call.Bind({});
  RequireNumber(input, call);
  if (input.is_float()) return Value(std::abs(input.number()));
  return input.integer() < 0 ? Negative(input, call.context) : Value(input.integer());
}

// To the nearest multiple of 10^digits, halves to the even one.
int64_t RoundedToTens(int64_t value, int64_t digits) {
  if (digits > 18) return 0;
  int64_t unit = 1;
  for (int64_t i = 0; i < digits; ++i) unit *= 10;
  int64_t down = value / unit;
  const int64_t rest = value - down * unit;
  const int64_t half = unit / 2, distance = std::abs(rest);
  if (distance > half || (distance == half && down % 2 != 0 && unit > 1)) down += value < 0 ? -1 : 1;
  return down * unit;
}

Value Common(const Value& input, int64_t precision, const Call& call) {
  if (input.is_integer()) {
    return Value(precision >= 0 ? input.integer() : RoundedToTens(input.integer(), -precision));
  }
  const double d = input.number();
  if (!std::isfinite(d) || precision > 330) return input;
  if (precision < -320) return Value(std::copysign(0.0, d));
  if (precision < 0) {
    const long double unit = std::pow(10.0L, static_cast<long double>(-precision));
    return Value(static_cast<double>(std::nearbyint(static_cast<long double>(d) / unit) * unit));
  }
  const std::string text = fmt::format("{:.{}f}", d, precision);  // rounded by its exact value
  const auto rounded = ParseFloat(text);
  if (!rounded) call.Refuse("a number that cannot be rounded", "", text);
  return Value(*rounded);
}

Value Round(const Value& input, Call& call) {
  const auto a = call.Bind({"precision", "method"});
  RequireNumber(input, call);
  const int64_t precision = call.Integer(a[0], 0);
  const std::string method = call.Text(a[1], "common");
  if (method == "common") return Common(input, precision, call);
  if (method != "ceil" && method != "floor") call.Refuse("an unknown method", "common, ceil or floor", method);
  const Value scale = Arithmetic("**", Value(10), Value(precision), call.context);
  const double scaled = Arithmetic("*", input, scale, call.context).number();
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  if (!std::isfinite(whole)) call.Refuse("a number that cannot be rounded", "", ReprFloat(whole));
  return Arithmetic("/", Value(whole), scale, call.context);
}

}  // namespace

const FilterTable& NumberFilters() {
  static const FilterTable kTable = {{"int", Int}, {"float", Float}, {"abs", Abs}, {"round", Round}};
  return kTable;
}

}  // namespace taipan::jinja
