#pragma once
// Files: mapping, whole reads, and writes that either happen completely or leave what was there.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

class TemporaryPath;

// Errors of all of these are UserErrors that name the path and say why (strerror).
std::string ReadFile(const std::string& path);

// A read-only mapping of a whole file (empty files map to size 0). A file that others cut meanwhile ends the process at
// the next access beyond its end; file_faults.h turns that into a message.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const char* data() const { return data_; }
  int64_t size() const { return size_; }
  // Copies bytes of data() without mapping their pages, which would count as memory of this process. UserError where
  // they are gone.
  void Read(const void* begin, int64_t bytes, void* to) const;
  // UserError where the file was written or cut since it was opened: what was read from it until then is not to be
  // used.
  void CheckUnchanged() const;

 private:
  std::string path_;
  int fd_ = -1;
  const char* data_ = nullptr;
  int64_t size_ = 0;
  std::array<int64_t, 2> changed_ = {};  // time of the last change: seconds, nanoseconds
};

// Collects writes in PATH.tmp-PID beside the target (base/temporary); Commit flushes, fsyncs, renames over the target
// and fsyncs the folder. Destroyed without Commit, or on an error such as a full disk, it removes the temporary file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void Write(const void* data, int64_t bytes);
  void Write(std::string_view text) { Write(text.data(), static_cast<int64_t>(text.size())); }
  void Append(const std::string& path);  // all of another file
  void Commit();

 private:
  std::string path_;
  std::unique_ptr<TemporaryPath> temporary_;
};
void WriteFileAtomically(const std::string& path, std::string_view content);
// A copy that shares nothing with its source when either is written; the bytes themselves are shared where the file
// system can do so until then.
void CopyFileAtomically(const std::string& from, const std::string& to);

void MakeDirectories(const std::string& path);  // like mkdir -p
bool PathExists(const std::string& path);
bool IsDirectory(const std::string& path);
std::vector<std::string> ListDirectory(const std::string& path);  // names, sorted
void RemoveTree(const std::string& path);
// Renames a complete folder into place (replacing an old one by way of a third name) and fsyncs the parent.
void ReplaceDirectory(const std::string& from, const std::string& to);

}  // namespace taipan
