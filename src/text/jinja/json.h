#pragma once
// json.dumps.

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace taipan::jinja {

struct JsonStyle {
  bool ascii = false, sort_keys = false;
  std::optional<std::string> indent;  // of one level
  std::string comma = ", ", colon = ": ";
};

std::string WriteJson(const Value& value, const JsonStyle& style, Context& context);

}  // namespace taipan::jinja
