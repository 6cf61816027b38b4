#pragma once
// What the config classes of other programs take where a config.json says nothing of a key. With transformers,
// tools/interchange/check_defaults.py compares the two.

#include <string_view>

#include "base/fields.h"

namespace taipan {

// `object` with the keys that it leaves out. `architecture`: a model_type of transformers, "mamba_ssm", or
// "mamba_ssm.ssm_cfg" for the object of that key. A null stays where it means something else than a missing key (no
// window, as many key heads as query heads); a flag's null is false, as Python has it, and a list's the default.
// Default token ids beyond the vocabulary are left out.
Json WithDefaults(Json object, std::string_view architecture);

}  // namespace taipan
