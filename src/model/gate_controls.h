#pragma once
// What a forward tells each selective layer of the options that it was called with.

#include "model/model.h"

namespace taipan {

GateControls ControlsOf(const GateOptions& gate, size_t sal);

}  // namespace taipan
