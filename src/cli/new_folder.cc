#include "cli/new_folder.h"

#include "base/error.h"
#include "base/files.h"

namespace taipan {

std::string NewFolderTarget(std::string out) {
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  if (PathExists(out) && !IsDirectory(out)) {
    throw UserError(
        {.where = out, .problem = "is a file", .expected = "a new or empty folder", .hint = "nothing was written"});
  }
  if (IsDirectory(out) && !ListDirectory(out).empty()) {
    throw UserError(
        {out, "the folder is not empty", "a new or empty folder", ListDirectory(out).front(), "nothing was written"});
  }
  return out;
}

namespace {

// As it is given, with the folders that lead there.
const std::string& WithParents(const std::string& target) {
  if (const size_t slash = target.rfind('/'); slash != std::string::npos && slash > 0) {
    MakeDirectories(target.substr(0, slash));
  }
  return target;
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& target)
    : folder_(WithParents(target), TemporaryPath::Kind::kFolder) {}

}  // namespace taipan
