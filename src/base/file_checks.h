#pragma once
// UserErrors where a result could not be written or an input not be read, to be called before the work. They look and
// leave nothing behind.

#include <string>

namespace taipan {

void CheckCanWrite(const std::string& path);
void CheckCanMakeFolder(const std::string& path);
void CheckCanRead(const std::string& path);

}  // namespace taipan
