#include "cli/new_folder.h"

#include <unistd.h>

#include "base/error.h"
#include "base/files.h"

namespace taipan {

std::string NewFolderTarget(std::string out) {
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  if (PathExists(out) && !IsDirectory(out)) {
    throw UserError({out, "is a file", "a new or empty folder", "", "nothing was written"});
  }
  if (IsDirectory(out) && !ListDirectory(out).empty()) {
    throw UserError(
        {out, "the folder is not empty", "a new or empty folder", ListDirectory(out).front(), "nothing was written"});
  }
  return out;
}

TemporaryFolder::TemporaryFolder(const std::string& target) : path_(fmt::format("{}.tmp-{}", target, getpid())) {
  MakeDirectories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  try {
    if (PathExists(path_)) RemoveTree(path_);
  } catch (const UserError&) {
    // The failure that led here is the one to report.
  }
}

}  // namespace taipan
