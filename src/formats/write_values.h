#pragma once
// Values into a file as another type, in pieces.

#include <string>

#include "base/files.h"
#include "tensor/ggml_blocks.h"
#include "tensor/tensor.h"

namespace taipan {

// Of f32 values, or as they are blocks [rows, bytes of a row] of the type. UserError naming `path` and the tensor where
// a value does not fit the type. Whole blocks only.
void WriteValues(AtomicFile& file, const std::string& path, const std::string& name, const Tensor& values,
                 GgmlType type);

}  // namespace taipan
