#include "base/file_checks.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"

namespace taipan {

void CheckCanWrite(const std::string& path) { const AtomicFile tried(path); }

void CheckCanMakeFolder(const std::string& path) {
  const std::filesystem::path target = std::filesystem::path(path).lexically_normal();
  std::filesystem::path nearest = target.has_filename() ? target : target.parent_path();
  while (!nearest.empty() && !PathExists(nearest)) nearest = nearest.parent_path();
  if (nearest.empty()) nearest = ".";
  if (!IsDirectory(nearest)) {
    throw UserError({path, "cannot create the folder", "a folder", nearest.string() + ", which is a file"});
  }
  if (::access(nearest.c_str(), W_OK | X_OK) != 0) {
    throw UserError(path, fmt::format("cannot create the folder: {}", std::strerror(errno)));
  }
}

void CheckCanRead(const std::string& path) {
  // Not opened: the writer at the other end of a pipe would be cut off when this one is closed.
  if (IsDirectory(path)) throw UserError({path, "wrong kind of path", "a file", "a folder"});
  if (::access(path.c_str(), R_OK) != 0) throw UserError(path, fmt::format("cannot open: {}", std::strerror(errno)));
}

}  // namespace taipan
