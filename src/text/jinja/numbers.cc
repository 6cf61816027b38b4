// + - * / // % **, as Python has them.

#include <cmath>
#include <limits>

#include "base/error.h"
#include "text/jinja/methods.h"
#include "text/jinja/value.h"

namespace taipan::jinja {
namespace {

[[noreturn]] void TooLarge(Context& context) {
  context.Refuse("a whole number is too large", "at most 64 bits with the sign");
}

[[noreturn]] void Unfit(std::string_view op, const Value& a, const Value& b, Context& context) {
  context.Refuse(fmt::format("{} does not go with these types", op), "",
                 fmt::format("{} and {}", TypeName(a), TypeName(b)));
}

int64_t IntegerPower(int64_t base, int64_t exponent, Context& context) {
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) TooLarge(context);
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) {
      TooLarge(context);
    }
  }
  return result;
}

// Rounded to the nearest double, as Python divides whole numbers.
double TrueQuotient(int64_t x, int64_t y) {
  return static_cast<double>(static_cast<long double>(x) / static_cast<long double>(y));
}

Value Integers(std::string_view op, int64_t x, int64_t y, Context& context) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(x, y, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(x, y, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(x, y, &result);
  } else if (op == "**") {
    if (y < 0 && x == 0) context.Refuse("0 cannot be raised to a negative power");
    if (y < 0) return Value(std::pow(static_cast<double>(x), static_cast<double>(y)));
    if (x == 0 || x == 1) return Value(y == 0 ? int64_t{1} : x);
    if (x == -1) return Value(y % 2 == 0 ? 1 : -1);
    return Value(IntegerPower(x, y, context));
  } else {
    if (y == 0) context.Refuse("division by zero");
    if (op == "/") return Value(TrueQuotient(x, y));
    if (y == -1) return op == "%" ? Value(0) : Negative(Value(x), context);
    const int64_t remainder = x % y;
    const bool rounded_up = remainder != 0 && (remainder < 0) != (y < 0);  // Python rounds down
    result = op == "%" ? remainder + (rounded_up ? y : 0) : x / y - (rounded_up ? 1 : 0);
  }
  if (overflow) TooLarge(context);
  return Value(result);
}

// Python's float // and %: the remainder has the divisor's sign.
Value FloorDivided(bool quotient, double x, double y) {
  double remainder = std::fmod(x, y);
  double divided = (x - remainder) / y;
  if (remainder != 0) {
    if ((y < 0) != (remainder < 0)) {
      remainder += y;
      divided -= 1;
    }
  } else {
    remainder = std::copysign(0.0, y);
  }
  if (!quotient) return Value(remainder);
  if (divided == 0) return Value(std::copysign(0.0, x / y));
  const double floor = std::floor(divided);
  return Value(divided - floor > 0.5 ? floor + 1 : floor);
}

Value Floats(std::string_view op, double x, double y, Context& context) {
  if (op == "+") return Value(x + y);
  if (op == "-") return Value(x - y);
  if (op == "*") return Value(x * y);
  if (op == "**") {
    if (x == 0 && y < 0) context.Refuse("0.0 cannot be raised to a negative power");
    const double power = std::pow(x, y);
    if (std::isnan(power) && !std::isnan(x) && !std::isnan(y)) context.Refuse("complex numbers are not supported");
    if (std::isinf(power) && std::isfinite(x) && std::isfinite(y)) context.Refuse("a float is too large");
    return Value(power);
  }
  if (y == 0) context.Refuse("division by zero");
  if (op == "/") return Value(x / y);
  return FloorDivided(op == "//", x, y);
}

Value Repeated(const Value& what, int64_t times, Context& context) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  const size_t size = what.is_string() ? what.text().size() : what.items().size();
  constexpr size_t kMost = size_t{1} << 40;  // keeps the product exact
  context.Reserve(std::min(size, kMost) * std::min<size_t>(count, size_t{1} << 20) > kMost || count > kMost
                      ? (size == 0 ? 0 : kMost)
                      : size * count * (what.is_string() ? 1 : 16));
  if (what.is_string()) {
    std::string text;
    text.reserve(size * count);
    for (size_t i = 0; i < count && size > 0; ++i) text += what.text();
    return Value(std::move(text), what.safe());
  }
  std::vector<Value> items;
  for (size_t i = 0; i < count && size > 0; ++i) items.insert(items.end(), what.items().begin(), what.items().end());
  return List(std::move(items), context, what.is_tuple() ? Sequence::Kind::kTuple : Sequence::Kind::kList);
}

Value Joined(const Value& a, const Value& b, Context& context) {
  if (a.is_string()) {
    context.Reserve(a.text().size() + b.text().size());
    if (a.safe() == b.safe()) return Value(a.text() + b.text(), a.safe());
    return Value((a.safe() ? a.text() : Escaped(a.text())) + (b.safe() ? b.text() : Escaped(b.text())), true);
  }
  std::vector<Value> items = a.items();
  items.insert(items.end(), b.items().begin(), b.items().end());
  return List(std::move(items), context, a.is_tuple() ? Sequence::Kind::kTuple : Sequence::Kind::kList);
}

}  // namespace

Value Arithmetic(std::string_view op, const Value& a, const Value& b, Context& context) {
  if (op == "%" && a.is_string()) return PercentFormat(a, b, context);
  if (a.is_undefined()) context.RefuseUndefined(a);
  if (b.is_undefined()) context.RefuseUndefined(b);
  if (a.is_integer() && b.is_integer()) return Integers(op, a.integer(), b.integer(), context);
  if (a.is_number() && b.is_number()) return Floats(op, a.number(), b.number(), context);
  const auto adds = [](const Value& v) { return v.is_string() || v.is_list() || v.is_tuple(); };
  const bool alike = (a.is_string() && b.is_string()) || (a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple());
  if (op == "+" && alike) return Joined(a, b, context);
  if (op == "*" && adds(a) && b.is_integer()) return Repeated(a, b.integer(), context);
  if (op == "*" && adds(b) && a.is_integer()) return Repeated(b, a.integer(), context);
  Unfit(op, a, b, context);
}

Value Negative(const Value& value, Context& context) {
  if (value.is_undefined()) context.RefuseUndefined(value);
  if (value.is_float()) return Value(-value.number());
  if (!value.is_integer()) context.Refuse("- does not go with this type", "", std::string(TypeName(value)));
  if (value.integer() == std::numeric_limits<int64_t>::min()) TooLarge(context);
  return Value(-value.integer());
}

}  // namespace taipan::jinja
