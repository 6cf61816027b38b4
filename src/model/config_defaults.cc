#include "model/config_defaults.h"

#include <nlohmann/json.hpp>
#include <string_view>

namespace taipan {
namespace {

bool IsBeyondVocabulary(const Json& object, std::string_view key, const Json& id) {
  const auto size = object.find("vocab_size");
  return key.ends_with("_token_id") && size != object.end() && size->is_number_integer() && id >= *size;
}

}  // namespace

Json WithDefaults(Json object, std::span<const ConfigDefault> defaults) {
  for (const ConfigDefault& d : defaults) {
    const Json value = Json::parse(d.value);
    const auto given = object.find(d.key);
    if (given == object.end()) {
      if (!IsBeyondVocabulary(object, d.key, value)) object[d.key] = value;
    } else if (given->is_null() && value.is_boolean()) {
      *given = false;
    } else if (given->is_null() && value.is_structured()) {
      *given = value;
    }
  }
  return object;
}

}  // namespace taipan
