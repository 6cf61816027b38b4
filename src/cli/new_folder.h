#pragma once
// Commands that write a whole folder, or none.

#include <string>

#include "base/temporary.h"

namespace taipan {

// The path without slashes at its end. UserError where it is a file or a folder that holds something.
std::string NewFolderTarget(std::string out);

// A folder beside the target that disappears unless it was moved into place (ReplaceDirectory).
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& target);
  const std::string& path() const { return folder_.path(); }

 private:
  TemporaryPath folder_;
};

}  // namespace taipan
