#pragma once
// gzip, by way of zlib, which only the .cc knows.

#include <cstdint>
#include <string>
#include <string_view>

namespace taipan {

// All of a gzip file's content, its members one after the other. UserError naming the path for damaged or cut files
// (checksums are verified), and where more than `most` bytes would come out.
std::string Gunzip(const std::string& path, std::string_view packed, int64_t most);
// The first bytes of the content, at most `bytes`, of the first bytes of a file.
std::string GunzipHead(std::string_view packed, int64_t bytes);

}  // namespace taipan
