#pragma once
// One process at a time in a folder.

#include <string>
#include <vector>

namespace taipan {

// Holds a folder, which is made where it is missing, until the object or its process ends, however that happens: the
// lock is the kernel's (flock on FOLDER/.lock), so the file of a killed process is in nobody's way. The file tells
// others who holds it.
class FolderLock {
 public:
  // UserError where another process (or another object here) holds the folder. A file system without locks is noted and
  // trusted.
  explicit FolderLock(const std::string& folder);
  // Removes the lock file, and the folders that were made for it where nothing else came into them.
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  static constexpr char kFile[] = ".lock";

 private:
  bool TryLock();
  void MakeFolders();
  void RemoveMadeFolders();

  std::string folder_, file_;
  int fd_ = -1;
  std::vector<std::string> made_;  // outermost first
};

}  // namespace taipan
