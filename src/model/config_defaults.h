#pragma once
// What the config classes of other programs take where a config.json says nothing of a key; the tables stand with the
// readers of each format. With transformers, tools/interchange/check_defaults.py compares the two.

#include <span>

#include "base/fields.h"

namespace taipan {

struct ConfigDefault {
  const char *key, *value;  // JSON; null: follows from other keys, or there is none
};

// `object` with the keys that it leaves out. A null stays where it means something else than a missing key (no window,
// as many key heads as query heads); a flag's null is false, as Python has it, and a list's the default. Default token
// ids beyond the vocabulary are left out.
Json WithDefaults(Json object, std::span<const ConfigDefault> defaults);

}  // namespace taipan
