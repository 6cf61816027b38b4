#pragma once
// Methods of strings, dicts, lists and numbers.

#include <string>

#include "text/jinja/value.h"

namespace taipan::jinja {

// Whether Python has a method of this name; some of them are refused when they are called.
bool HasMethod(const Value& object, const std::string& name);
// Whether the sandbox forbids it, because it changes a list or dict.
bool ChangesObject(const Value& object, const std::string& name);
Value MakeMethod(Value object, std::string name);

Value CallStringMethod(const Value& text, Call& call);

// "..." % values; str.format; format(value, spec).
Value PercentFormat(const Value& format, const Value& values, Context& context);
std::string BraceFormat(const std::string& format, const Call& call);
std::string FormatValue(const Value& value, const std::string& spec, Context& context);

}  // namespace taipan::jinja
