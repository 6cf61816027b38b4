#pragma once
// Zstandard, by way of libzstd, which only the .cc knows.

#include "data/unpack.h"

namespace taipan {

std::unique_ptr<Unpacker> NewUnzstd(const std::string& path);

}  // namespace taipan
