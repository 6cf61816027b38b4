#pragma once
// gzip, by way of zlib, which only the .cc knows.

#include "data/unpack.h"

namespace taipan {

std::unique_ptr<Unpacker> NewGunzip(const std::string& path);

}  // namespace taipan
