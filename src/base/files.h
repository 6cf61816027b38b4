#pragma once
// Files: mapping, whole reads, and writes that either happen completely or leave what was there.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace taipan {

// Errors of all of these are UserErrors that name the path and say why (strerror).
std::string ReadFile(const std::string& path);

// A read-only mapping of a whole file (empty files map to size 0).
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const char* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  const char* data_ = nullptr;
  int64_t size_ = 0;
};

// Collects writes in PATH.tmp-PID beside the target; Commit flushes, fsyncs, renames over the target and fsyncs the
// folder. Destroyed without Commit, or on an error such as a full disk, it removes the temporary file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void Write(const void* data, int64_t bytes);
  void Write(std::string_view text) { Write(text.data(), static_cast<int64_t>(text.size())); }
  void Commit();

 private:
  std::string path_, temporary_;
  int fd_ = -1;
};
void WriteFileAtomically(const std::string& path, std::string_view content);

void MakeDirectories(const std::string& path);  // like mkdir -p
bool PathExists(const std::string& path);
bool IsDirectory(const std::string& path);
std::vector<std::string> ListDirectory(const std::string& path);  // names, sorted
void RemoveTree(const std::string& path);
// Renames a complete folder into place (replacing an old one by way of a third name) and fsyncs the parent.
void ReplaceDirectory(const std::string& from, const std::string& to);

}  // namespace taipan
