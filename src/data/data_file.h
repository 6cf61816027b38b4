#pragma once
// A file of training data, read by position for hours: nothing that happens to the file meanwhile ends the process or
// gives other data in silence.

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "base/error.h"

namespace taipan {

// Identifies the content of one data file, so that a resumed run can tell that it reads the same data.
struct FileStamp {
  std::string name;   // without its folder: data may move
  int64_t bytes = 0;  // of the file
  uint64_t hash = 0;  // of the content; of evenly spaced samples where the file is large

  bool operator==(const FileStamp&) const = default;
};
// Hash of everything up to 64 MiB, of 64 samples of 1 MiB (the first and the last bytes among them) beyond.
uint64_t HashContent(const char* data, int64_t size);

// A data file that is no longer what it was when it was opened.
class DataChanged : public UserError {
 public:
  using UserError::UserError;
};

// Files up to 64 MiB are copied when they are opened, as long as `memory` lasts. Others are read when they are needed,
// neither mapped nor kept open: each read looks whether the file is still the one that was opened.
class DataFile {
 public:
  // memory: bytes that may still be copied; what is taken is subtracted. UserError for a file that is missing, no file,
  // or changes while it is opened.
  DataFile(const std::string& path, int64_t& memory);

  const std::string& path() const { return path_; }
  int64_t size() const { return stamp_.bytes; }
  const FileStamp& stamp() const { return stamp_; }
  bool in_memory() const { return in_memory_; }
  // Bytes [begin, begin + count), within [0, size()).
  void Read(int64_t begin, int64_t count, char* out) const;
  std::string Take(int64_t& memory);  // all of it; a copy is given up, so what follows is read from the file
  // Throws where the file is gone or has other content than it had. A file whose time alone changed has not.
  void CheckUnchanged() const;

 private:
  struct Version {
    int64_t bytes = 0, seconds = 0, nanoseconds = 0;  // size, time of the last change
    uint64_t device = 0, inode = 0;
    bool operator==(const Version&) const = default;
  };
  static Version VersionOf(const struct stat& info);
  static std::string Describe(const Version& v);
  void ReadFrom(int fd, int64_t begin, int64_t count, char* out) const;
  uint64_t HashFrom(int fd) const;
  void CheckVersion(int fd) const;
  [[noreturn]] void RefuseChange(const std::string& found) const;

  std::string path_;
  FileStamp stamp_;
  mutable Version version_;  // another one with the same content replaces it
  bool in_memory_ = false;
  std::string content_;
};

}  // namespace taipan
