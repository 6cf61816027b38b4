#pragma once
// For tests: an empty folder of its own, removed at the end of the scope.

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/files.h"

namespace taipan {

class TestFolder {
 public:
  TestFolder() : path_((std::filesystem::temp_directory_path() / "taipan-test-XXXXXX").string()) {
    CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The message of the UserError that `f` throws, "" where it throws none.
template <class F>
std::string UserErrorOf(F&& f) {
  try {
    f();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

}  // namespace taipan
