#pragma once
// What templates call by name. Names outside of the subset are refused.

#include "text/jinja_values.h"

namespace taipan::jinja {

Value ApplyFilter(const Value& input, const Call& call);
bool ApplyTest(const Value& input, const Call& call);
Value CallMethod(const Value& object, const Call& call);
bool IsFunction(std::string_view name);
Value CallFunction(const Call& call);

}  // namespace taipan::jinja
